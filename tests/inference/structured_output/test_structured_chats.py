"""Chats held to JSON, to a schema or to a call: whole, streamed, several at once, beside others."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from inference.engine import Engine
from inference.protocol.errors import EngineError
from inference.protocol.generation import ChatRequest
from inference.protocol.model_ref import ModelRef
from storage.settings import Settings
from tests.tiny import TOOL_TEMPLATE, byte_tokenizer, tiny_chat_base

pytestmark = pytest.mark.anyio

KIND = {
    "type": "object",
    "properties": {"kind": {"enum": ["animal", "color"]}, "sure": {"type": "boolean"}},
    "required": ["kind", "sure"],
    "additionalProperties": False,
}
CITY = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 4}},
    "required": ["city"],
    "additionalProperties": False,
}
[NEWLINE] = byte_tokenizer().encode("\n")
# These weights like nothing better than to indent; the contexts of these models have 256 bytes.
TERSE = {str(NEWLINE): -100}


def tool(name: str, parameters: dict[str, Any] | None = CITY) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


def named(name: str) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name}}


TOOLS = [tool("get"), tool("get_weather"), tool("now", None)]


def fits(schema: dict[str, Any] | None = KIND) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "kind", "schema": schema, "strict": True}}


def asked(**fields: Any) -> ChatRequest:
    body = {"model": "m", "messages": [{"role": "user", "content": "cat"}], "max_tokens": 150, "logit_bias": TERSE}
    return ChatRequest.model_validate({**body, **fields})


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    home = tmp_path_factory.mktemp("held")
    tiny_chat_base(home / "tools", template=TOOL_TEMPLATE)
    tiny_chat_base(home / "plain")
    file = tiny_chat_base(home / "odd") / "tokenizer.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "decoder": {"type": "Fuse"}}))
    entry = '[{0}]\npath = "{1}"\ntasks = ["chat"]\nparameters = 1\ncontext = 256\nlicense = "none"\n'
    (home / "bases.toml").write_text("".join(entry.format(name, home / name) for name in ("tools", "plain", "odd")))
    return Settings(home=home, models_file=home / "bases.toml", engine_models=3, engine_batch=8)


@pytest.fixture
async def caller(bases: Settings) -> AsyncIterator[Engine]:
    engine = Engine(bases)
    yield engine
    await engine.close()


TOOLING, PLAIN = ModelRef.of_base("tools", "chat"), ModelRef.of_base("plain", "chat")


@pytest.mark.parametrize("seed", range(4))
async def test_an_answer_is_one_object(caller: Engine, seed: int) -> None:
    # An object of anything may be long: the brace that ends it is made likely.
    [brace] = byte_tokenizer().encode("}")
    bias = {**TERSE, str(brace): 8}
    completion = await caller.chat(PLAIN, asked(response_format={"type": "json_object"}, seed=seed, logit_bias=bias))
    [choice] = completion["choices"]
    assert choice["finish_reason"] == "stop"
    assert isinstance(json.loads(choice["message"]["content"]), dict)
    assert choice["message"]["refusal"] is None


async def test_each_of_several_answers_fits_the_schema(caller: Engine) -> None:
    request = asked(response_format=fits(), n=4, seed=3)
    first, again = [await caller.chat(PLAIN, request) for _ in range(2)]
    texts = [choice["message"]["content"] for choice in first["choices"]]
    for text in texts:
        Draft202012Validator(KIND).validate(json.loads(text))
    assert len(set(texts)) > 1
    assert texts == [choice["message"]["content"] for choice in again["choices"]]
    assert {choice["finish_reason"] for choice in first["choices"]} == {"stop"}
    assert first["usage"]["completion_tokens"] == sum(map(len, texts)), "a byte each, and no token to end"


async def test_a_schema_that_is_left_out_is_any_objects(caller: Engine) -> None:
    completion = await caller.chat(PLAIN, asked(response_format=fits(None), max_tokens=1))
    assert completion["choices"][0]["message"]["content"] == "{"
    assert completion["choices"][0]["finish_reason"] == "length"


@pytest.mark.parametrize(
    ("choice", "names", "finish"),
    [
        ("required", {"get", "get_weather", "now"}, "tool_calls"),
        (named("get"), {"get"}, "stop"),
        (named("get_weather"), {"get_weather"}, "stop"),
        (named("now"), {"now"}, "stop"),
        (
            {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [named("now"), named("get")]}},
            {"get", "now"},
            "tool_calls",
        ),
    ],
    ids=["required", "get", "get_weather", "now", "allowed"],
)
async def test_a_forced_call(caller: Engine, choice: Any, names: set[str], finish: str) -> None:
    called = set()
    for seed in range(2):
        completion = await caller.chat(TOOLING, asked(tools=TOOLS, tool_choice=choice, seed=seed))
        [made] = completion["choices"]
        assert (made["message"]["content"], made["finish_reason"]) == (None, finish)
        [call] = made["message"]["tool_calls"]
        called.add(call["function"]["name"])
        arguments = json.loads(call["function"]["arguments"])
        if call["function"]["name"] == "now":
            assert arguments == {}
        else:
            Draft202012Validator(CITY).validate(arguments)
    assert called <= names


async def test_a_streamed_call_is_the_whole_ones(caller: Engine) -> None:
    fields: dict[str, Any] = {"tools": TOOLS, "tool_choice": "required", "seed": 1, "logprobs": True}
    whole = await caller.chat(TOOLING, asked(**fields))
    chunks = [chunk async for chunk in caller.chat_stream(TOOLING, asked(stream=True, **fields))]
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    [told] = [call for delta in deltas for call in delta.get("tool_calls", [])]
    [made] = whole["choices"][0]["message"]["tool_calls"]
    assert told["function"] == made["function"]
    assert not any(delta.get("content") for delta in deltas)
    assert chunks[-1]["choices"][0]["finish_reason"] == "tool_calls"


async def test_a_streamed_object_is_the_whole_one(caller: Engine) -> None:
    whole = await caller.chat(PLAIN, asked(response_format=fits(), seed=2))
    request = asked(response_format=fits(), seed=2, stream=True)
    chunks = [chunk async for chunk in caller.chat_stream(PLAIN, request)]
    text = "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks)
    assert text == whole["choices"][0]["message"]["content"]
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"


async def test_tools_that_may_be_called_leave_the_format_to_words(caller: Engine) -> None:
    """Either a call or an answer of the form, and nothing else."""
    kinds = set()
    for seed in range(12):
        request = asked(tools=[tool("get")], response_format=fits(), seed=seed, temperature=2)
        completion = await caller.chat(TOOLING, request)
        message = completion["choices"][0]["message"]
        calls = message.get("tool_calls")
        kinds.add(bool(calls))
        if calls:
            Draft202012Validator(CITY).validate(json.loads(calls[0]["function"]["arguments"]))
            assert completion["choices"][0]["finish_reason"] == "tool_calls"
        else:
            Draft202012Validator(KIND).validate(json.loads(message["content"]))
    assert kinds == {True, False}, "one of the two alone would prove nothing"


async def test_only_allowed_tools_are_called(caller: Engine) -> None:
    choice = {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [named("get_weather")]}}
    request = asked(tools=TOOLS, tool_choice=choice, response_format=fits({"type": "null"}), seed=1)
    for seed in range(6):
        completion = await caller.chat(TOOLING, request.model_copy(update={"seed": seed}))
        calls = completion["choices"][0]["message"].get("tool_calls", [])
        assert {call["function"]["name"] for call in calls} <= {"get_weather"}


async def test_a_call_cut_short_is_text(caller: Engine) -> None:
    completion = await caller.chat(TOOLING, asked(tools=TOOLS, tool_choice=named("get"), max_tokens=20))
    [choice] = completion["choices"]
    assert choice["finish_reason"] == "length"
    assert "tool_calls" not in choice["message"]
    assert choice["message"]["content"] == '<call>{"name": "get"'


async def test_a_stop_string_ends_a_held_answer(caller: Engine) -> None:
    completion = await caller.chat(PLAIN, asked(response_format=fits(), stop=['"sure']))
    [choice] = completion["choices"]
    assert choice["finish_reason"] == "stop"
    assert choice["message"]["content"].rstrip().endswith(",")


@pytest.mark.parametrize(
    ("fields", "code", "param"),
    [
        ({"response_format": fits({"not": {}})}, "invalid_request", "response_format"),
        ({"response_format": fits({"$ref": "https://example.com/a"})}, "invalid_request", "response_format"),
        (
            {"tools": [tool("get"), tool("put", {"type": "object", "patternProperties": {"(": {}}})],
             "tool_choice": "required"},
            "invalid_request",
            "tools.1.function.parameters",
        ),
        ({"tools": [tool("get", {"type": "string"})], "tool_choice": named("get")}, "invalid_request",
         "tools.0.function.parameters"),
        ({"tools": [tool("get", {"$comment": "x" * 70_000})], "tool_choice": named("get")}, "invalid_request",
         "tools.0.function.parameters"),
        ({"tools": [tool(f"get{at}", {"$comment": "x" * 60_000}) for at in range(5)], "tool_choice": "required"},
         "invalid_request", "tools"),
    ],
    ids=["keyword", "reference", "pattern", "kind", "size", "sizes"],
)  # fmt: skip
async def test_a_schema_that_cannot_be_held(caller: Engine, fields: dict[str, Any], code: str, param: str) -> None:
    with pytest.raises(EngineError) as whole:
        await caller.chat(TOOLING, asked(**fields))
    with pytest.raises(EngineError) as streamed:
        await anext(caller.chat_stream(TOOLING, asked(stream=True, **fields)))
    for caught in (whole, streamed):
        assert (caught.value.status, caught.value.code, caught.value.param) == (400, code, param)
    free = {**fields, "tool_choice": "auto", "response_format": None, "max_tokens": 1}
    if "x" * 100 not in str(fields):
        assert (await caller.chat(TOOLING, asked(**free)))["choices"], "what is not held may be any schema"


async def test_a_base_whose_template_knows_no_tools_forces_none(caller: Engine) -> None:
    with pytest.raises(EngineError) as caught:
        await caller.chat(PLAIN, asked(tools=TOOLS, tool_choice="required"))
    assert (caught.value.code, caught.value.param) == ("unsupported_parameter", "tools")


async def test_a_base_whose_tokens_are_not_bytes_is_held_to_nothing(caller: Engine) -> None:
    odd = ModelRef.of_base("odd", "chat")
    with pytest.raises(EngineError, match="its tokens are not bytes") as caught:
        await caller.chat(odd, asked(response_format=fits()))
    assert (caught.value.code, caught.value.param) == ("unsupported_parameter", "response_format")
    assert (await caller.chat(odd, asked(max_tokens=1)))["choices"]

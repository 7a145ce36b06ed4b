"""Chats constrained to JSON, a schema or a tool call: complete, streamed, with several choices,
concurrently."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from inference.engine import Engine
from inference.protocol.errors import EngineError
from inference.protocol.generation import ChatCompletionRequest
from inference.protocol.model_ref import ModelRef
from storage.settings import Settings
from tests.tiny import TOOL_TEMPLATE, build_byte_tokenizer, create_tiny_chat_base

pytestmark = [pytest.mark.anyio, pytest.mark.integration]

KIND_SCHEMA = {
    "type": "object",
    "properties": {"kind": {"enum": ["animal", "color"]}, "sure": {"type": "boolean"}},
    "required": ["kind", "sure"],
    "additionalProperties": False,
}
CITY_SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 4}},
    "required": ["city"],
    "additionalProperties": False,
}
[NEWLINE] = build_byte_tokenizer().encode("\n")
# These random weights generate many line breaks, which would fill the models' context of 256 bytes.
NEWLINE_BIAS = {str(NEWLINE): -100}


def build_tool(name: str, parameters: dict[str, Any] | None = CITY_SCHEMA) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


def build_tool_choice(name: str) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name}}


TOOLS = [build_tool("get"), build_tool("get_weather"), build_tool("now", None)]


def build_response_format(schema: dict[str, Any] | None = KIND_SCHEMA) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "kind", "schema": schema, "strict": True}}


def build_request(**fields: Any) -> ChatCompletionRequest:
    body = {
        "model": "m",
        "messages": [{"role": "user", "content": "cat"}],
        "max_tokens": 150,
        "logit_bias": NEWLINE_BIAS,
    }
    return ChatCompletionRequest.model_validate({**body, **fields})


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    home = tmp_path_factory.mktemp("constrained")
    create_tiny_chat_base(home / "tools", template=TOOL_TEMPLATE)
    create_tiny_chat_base(home / "plain")
    file = create_tiny_chat_base(home / "odd") / "tokenizer.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "decoder": {"type": "Fuse"}}))
    entry = '[{0}]\npath = "{1}"\ntasks = ["chat"]\nparameters = 1\ncontext = 256\nlicense = "none"\n'
    (home / "bases.toml").write_text("".join(entry.format(name, home / name) for name in ("tools", "plain", "odd")))
    return Settings(home=home, models_file=home / "bases.toml", engine_models=3, engine_batch=8)


@pytest.fixture
async def chat_engine(bases: Settings) -> AsyncIterator[Engine]:
    engine = Engine(bases)
    yield engine
    await engine.close()


TOOLS_BASE, PLAIN_BASE = ModelRef.from_base("tools", "chat"), ModelRef.from_base("plain", "chat")


@pytest.mark.parametrize("seed", range(4))
async def test_output_is_one_object(chat_engine: Engine, seed: int) -> None:
    # An arbitrary object can be long, so the bias makes its closing brace likely.
    [brace] = build_byte_tokenizer().encode("}")
    bias = {**NEWLINE_BIAS, str(brace): 8}
    completion = await chat_engine.chat(
        PLAIN_BASE, build_request(response_format={"type": "json_object"}, seed=seed, logit_bias=bias)
    )
    [choice] = completion["choices"]
    assert choice["finish_reason"] == "stop"
    assert isinstance(json.loads(choice["message"]["content"]), dict)
    assert choice["message"]["refusal"] is None


async def test_each_of_several_choices_matches_the_schema(chat_engine: Engine) -> None:
    request = build_request(response_format=build_response_format(), n=4, seed=3)
    first, again = [await chat_engine.chat(PLAIN_BASE, request) for _ in range(2)]
    texts = [choice["message"]["content"] for choice in first["choices"]]
    for text in texts:
        Draft202012Validator(KIND_SCHEMA).validate(json.loads(text))
    assert len(set(texts)) > 1
    assert texts == [choice["message"]["content"] for choice in again["choices"]]
    assert {choice["finish_reason"] for choice in first["choices"]} == {"stop"}
    assert first["usage"]["completion_tokens"] == sum(map(len, texts)), "one token per byte, and no stop token"


async def test_a_missing_schema_allows_any_object(chat_engine: Engine) -> None:
    completion = await chat_engine.chat(
        PLAIN_BASE, build_request(response_format=build_response_format(None), max_tokens=1)
    )
    assert completion["choices"][0]["message"]["content"] == "{"
    assert completion["choices"][0]["finish_reason"] == "length"


@pytest.mark.parametrize(
    ("tool_choice", "names", "finish_reason"),
    [
        ("required", {"get", "get_weather", "now"}, "tool_calls"),
        (build_tool_choice("get"), {"get"}, "stop"),
        (build_tool_choice("get_weather"), {"get_weather"}, "stop"),
        (build_tool_choice("now"), {"now"}, "stop"),
        (
            {
                "type": "allowed_tools",
                "allowed_tools": {"mode": "required", "tools": [build_tool_choice("now"), build_tool_choice("get")]},
            },
            {"get", "now"},
            "tool_calls",
        ),
    ],
    ids=["required", "get", "get_weather", "now", "allowed"],
)
async def test_a_forced_call(chat_engine: Engine, tool_choice: Any, names: set[str], finish_reason: str) -> None:
    called = set()
    for seed in range(2):
        completion = await chat_engine.chat(TOOLS_BASE, build_request(tools=TOOLS, tool_choice=tool_choice, seed=seed))
        [choice] = completion["choices"]
        assert (choice["message"]["content"], choice["finish_reason"]) == (None, finish_reason)
        [call] = choice["message"]["tool_calls"]
        called.add(call["function"]["name"])
        arguments = json.loads(call["function"]["arguments"])
        if call["function"]["name"] == "now":
            assert arguments == {}
        else:
            Draft202012Validator(CITY_SCHEMA).validate(arguments)
    assert called <= names


async def test_a_streamed_call_equals_the_complete_one(chat_engine: Engine) -> None:
    fields: dict[str, Any] = {"tools": TOOLS, "tool_choice": "required", "seed": 1, "logprobs": True}
    complete = await chat_engine.chat(TOOLS_BASE, build_request(**fields))
    chunks = [chunk async for chunk in chat_engine.chat_stream(TOOLS_BASE, build_request(stream=True, **fields))]
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    [streamed_call] = [call for delta in deltas for call in delta.get("tool_calls", [])]
    [complete_call] = complete["choices"][0]["message"]["tool_calls"]
    assert streamed_call["function"] == complete_call["function"]
    assert not any(delta.get("content") for delta in deltas)
    assert chunks[-1]["choices"][0]["finish_reason"] == "tool_calls"


async def test_a_streamed_object_equals_the_complete_one(chat_engine: Engine) -> None:
    complete = await chat_engine.chat(PLAIN_BASE, build_request(response_format=build_response_format(), seed=2))
    request = build_request(response_format=build_response_format(), seed=2, stream=True)
    chunks = [chunk async for chunk in chat_engine.chat_stream(PLAIN_BASE, request)]
    text = "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks)
    assert text == complete["choices"][0]["message"]["content"]
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"


async def test_optional_tools_with_a_response_format(chat_engine: Engine) -> None:
    """The output is either a call or text that matches the response format."""
    kinds = set()
    for seed in range(12):
        request = build_request(
            tools=[build_tool("get")], response_format=build_response_format(), seed=seed, temperature=2
        )
        completion = await chat_engine.chat(TOOLS_BASE, request)
        message = completion["choices"][0]["message"]
        calls = message.get("tool_calls")
        kinds.add(bool(calls))
        if calls:
            Draft202012Validator(CITY_SCHEMA).validate(json.loads(calls[0]["function"]["arguments"]))
            assert completion["choices"][0]["finish_reason"] == "tool_calls"
        else:
            Draft202012Validator(KIND_SCHEMA).validate(json.loads(message["content"]))
    assert kinds == {True, False}, "the seeds must produce both kinds of output"


async def test_only_allowed_tools_are_called(chat_engine: Engine) -> None:
    choice = {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [build_tool_choice("get_weather")]}}
    request = build_request(
        tools=TOOLS, tool_choice=choice, response_format=build_response_format({"type": "null"}), seed=1
    )
    for seed in range(6):
        completion = await chat_engine.chat(TOOLS_BASE, request.model_copy(update={"seed": seed}))
        calls = completion["choices"][0]["message"].get("tool_calls", [])
        assert {call["function"]["name"] for call in calls} <= {"get_weather"}


async def test_a_truncated_call_is_text(chat_engine: Engine) -> None:
    completion = await chat_engine.chat(
        TOOLS_BASE, build_request(tools=TOOLS, tool_choice=build_tool_choice("get"), max_tokens=20)
    )
    [choice] = completion["choices"]
    assert choice["finish_reason"] == "length"
    assert "tool_calls" not in choice["message"]
    assert choice["message"]["content"] == '<call>{"name": "get"'


async def test_a_stop_string_ends_constrained_output(chat_engine: Engine) -> None:
    completion = await chat_engine.chat(
        PLAIN_BASE, build_request(response_format=build_response_format(), stop=['"sure'])
    )
    [choice] = completion["choices"]
    assert choice["finish_reason"] == "stop"
    assert choice["message"]["content"].rstrip().endswith(",")


@pytest.mark.parametrize(
    ("fields", "code", "param"),
    [
        ({"response_format": build_response_format({"not": {}})}, "invalid_request", "response_format"),
        ({"response_format": build_response_format({"$ref": "https://example.com/a"})},
         "invalid_request", "response_format"),
        (
            {"tools": [build_tool("get"), build_tool("put", {"type": "object", "patternProperties": {"(": {}}})],
             "tool_choice": "required"},
            "invalid_request",
            "tools.1.function.parameters",
        ),
        ({"tools": [build_tool("get", {"type": "string"})], "tool_choice": build_tool_choice("get")}, "invalid_request",
         "tools.0.function.parameters"),
        ({"tools": [build_tool("get", {"$comment": "x" * 70_000})], "tool_choice": build_tool_choice("get")},
         "invalid_request", "tools.0.function.parameters"),
        ({"tools": [build_tool(f"get{i}", {"$comment": "x" * 60_000}) for i in range(5)], "tool_choice": "required"},
         "invalid_request", "tools"),
    ],
    ids=["keyword", "reference", "pattern", "kind", "size", "sizes"],
)  # fmt: skip
async def test_unsupported_schemas_are_refused(
    chat_engine: Engine, fields: dict[str, Any], code: str, param: str
) -> None:
    with pytest.raises(EngineError) as non_streaming:
        await chat_engine.chat(TOOLS_BASE, build_request(**fields))
    with pytest.raises(EngineError) as streaming:
        await anext(chat_engine.chat_stream(TOOLS_BASE, build_request(stream=True, **fields)))
    for caught in (non_streaming, streaming):
        assert (caught.value.status, caught.value.code, caught.value.param) == (400, code, param)
    unconstrained = {**fields, "tool_choice": "auto", "response_format": None, "max_tokens": 1}
    if "x" * 100 not in str(fields):
        assert (await chat_engine.chat(TOOLS_BASE, build_request(**unconstrained)))["choices"], (
            "schemas without constrained decoding must not be checked"
        )


async def test_a_base_whose_template_has_no_tools_cannot_force_calls(chat_engine: Engine) -> None:
    with pytest.raises(EngineError) as caught:
        await chat_engine.chat(PLAIN_BASE, build_request(tools=TOOLS, tool_choice="required"))
    assert (caught.value.code, caught.value.param) == ("unsupported_parameter", "tools")


async def test_a_base_whose_tokens_are_not_bytes_cannot_be_constrained(chat_engine: Engine) -> None:
    odd = ModelRef.from_base("odd", "chat")
    with pytest.raises(EngineError, match="its tokens are not bytes") as caught:
        await chat_engine.chat(odd, build_request(response_format=build_response_format()))
    assert (caught.value.code, caught.value.param) == ("unsupported_parameter", "response_format")
    assert (await chat_engine.chat(odd, build_request(max_tokens=1)))["choices"]

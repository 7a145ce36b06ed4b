"""Models with slashes and colons, chats whole and streamed, embeddings, batches, webhooks."""

from __future__ import annotations

import json
import math
from typing import Any, Literal

import openai
from pydantic import BaseModel

from tests.conformance.client.context import World, needs, raises

TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}

IDLE = {
    "audio": {"format": "wav", "voice": "alloy"},
    "metadata": {"foo": "string"},
    "modalities": ["text"],
    "parallel_tool_calls": True,
    "prediction": {"content": "string", "type": "content"},
    "prompt_cache_key": "key",
    "prompt_cache_options": {"mode": "implicit", "ttl": "30m"},
    "prompt_cache_retention": "in_memory",
    "reasoning_effort": "none",
    "response_format": {"type": "text"},
    "safety_identifier": "somebody",
    "service_tier": "auto",
    "store": False,
    "tool_choice": "auto",
    "tools": [],
    "user": "u",
    "verbosity": "low",
}
"""Fields that OpenAI documents, with values that ask for nothing or for no other answer."""


class Kind(BaseModel):
    kind: Literal["animal", "color"]


def ask(world: World, words: str, **values: Any) -> Any:
    return world.client().chat.completions.create(
        model=world.model, messages=[{"role": "user", "content": words}], **values
    )


def text_of(stream: Any) -> str:
    return "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)


def check_models_with_slashes_and_colons(world: World) -> None:
    client = world.client()
    listed = {model.id: model for model in client.models.list()}
    for name in (world.model, world.kept_slashed, world.slashed, "starter"):
        found = client.models.retrieve(name)
        assert (found.id, found.object, found.created) == (name, "model", listed[name].created)
    deleted = client.models.delete(world.slashed)
    assert (deleted.id, deleted.deleted) == (world.slashed, True)
    with raises(openai.NotFoundError) as raised:
        client.models.retrieve(world.slashed)
    raised.says(404, "model_not_found", "model")


def check_chat(world: World) -> None:
    answer = ask(world, "hello")
    choice = answer.choices[0]
    assert (choice.message.role, choice.message.content, choice.finish_reason) == (
        "assistant",
        "You said hello.",
        "stop",
    )
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert answer.model == world.model


def check_chat_takes_what_has_no_effect_here(world: World) -> None:
    assert ask(world, "hello", extra_body=IDLE).choices[0].message.content == "You said hello."


def check_chat_refuses_what_would_be_missed(world: World) -> None:
    with raises(openai.BadRequestError) as raised:
        ask(world, "hello", functions=[TOOL["function"]])
    raised.says(400, "unsupported_parameter", "functions")


def check_chat_takes_tools(world: World) -> None:
    for choice in ("none", "auto", "required"):
        assert ask(world, "hello", tools=[TOOL], tool_choice=choice).choices
    with raises(openai.BadRequestError) as raised:
        ask(world, "hello", tool_choice="required")
    raised.says(400, "invalid_value", "tool_choice")


def check_chat_takes_formats(world: World) -> None:
    assert ask(world, "{}", response_format={"type": "json_object"}).choices[0].message.content == "{}"
    with raises(openai.BadRequestError) as raised:
        ask(world, "{}", response_format={"type": "json_schema"})
    raised.says(400, "missing_required_parameter", "response_format.json_schema")


@needs("chat.completions.parse")
def check_chat_parses_an_answer_into_a_model(world: World) -> None:
    turns = [{"role": "user", "content": '{"kind": "animal"}'}]
    answer = world.client().chat.completions.parse(model=world.model, messages=turns, response_format=Kind)
    assert answer.choices[0].message.parsed == Kind(kind="animal")


@needs("chat.completions.parse")
def check_chat_parses_a_forced_call_into_a_model(world: World) -> None:
    tools = [openai.pydantic_function_tool(Kind)]
    choice = {"type": "function", "function": {"name": "Kind"}}
    turns = [{"role": "user", "content": '{"kind": "color"}'}]
    answer = world.client().chat.completions.parse(model=world.model, messages=turns, tools=tools, tool_choice=choice)
    [call] = answer.choices[0].message.tool_calls
    assert call.function.parsed_arguments == Kind(kind="color")


def check_chat_stream(world: World) -> None:
    chunks = list(ask(world, "hello", stream=True))
    assert {chunk.object for chunk in chunks} == {"chat.completion.chunk"}
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [chunk.choices[0].finish_reason for chunk in chunks] == [None] * (len(chunks) - 1) + ["stop"]
    assert text_of(chunks) == "You said hello"


def check_slow_tokens_and_keep_alives(world: World) -> None:
    body = {"model": world.model, "messages": [{"role": "user", "content": "slow start"}], "stream": True}
    sent = world.raw("/chat/completions", body)
    assert sent.startswith(b": ping\n\n"), "the server sent no keep-alive while there was nothing to tell"
    assert sent.endswith(b"data: [DONE]\n\n")
    assert text_of(ask(world, "slow start", stream=True)) == "You said slow start"


def check_error_in_mid_stream(world: World) -> None:
    text = ""
    with raises(openai.APIError) as raised:
        for chunk in ask(world, "fail", stream=True):
            text += chunk.choices[0].delta.content or ""
    assert text == "You ", "what came before the error is the client's"
    assert (raised.error.type, bool(raised.error.message)) == ("server_error", True)


def check_a_stream_that_ends_too_soon(world: World) -> None:
    with raises(openai.APIError):
        list(ask(world, "vanish", stream=True))


def check_a_stream_left_early(world: World) -> None:
    stream = ask(world, "endless", stream=True)
    for _ in zip(range(5), stream, strict=False):
        pass
    stream.response.close()


def check_errors_of_the_engine(world: World) -> None:
    with raises(openai.BadRequestError) as raised:
        ask(world, "too long")
    raised.says(400, "context_length_exceeded", "messages")
    with raises(openai.InternalServerError) as raised:
        ask(world, "busy")
    raised.says(503, "engine_overloaded")
    assert int(raised.error.response.headers["retry-after"]) > 0


def check_completions(world: World) -> None:
    client = world.client()
    assert client.completions.create(model="starter", prompt="Once").choices[0].text == "and so on"
    # The strict client knows no null finish_reason here, which OpenAI itself sends.
    stream = world.client(strict=False).completions.create(model="starter", prompt="Once", stream=True)
    assert "".join(chunk.choices[0].text for chunk in stream) == "and so on"


def check_embeddings_as_base64_and_as_numbers(world: World) -> None:
    """The client asks for base64 by itself and decodes it, after a strict one has checked for numbers."""
    client = world.client(strict=False)
    packed = client.embeddings.create(model="encoder", input=["a", "b"])
    plain = client.embeddings.create(model="encoder", input=["a", "b"], encoding_format="float")
    for answer in (packed, plain):
        assert [each.index for each in answer.data] == [0, 1]
        third, negative = answer.data[0].embedding
        assert math.isclose(third, 1 / 3, rel_tol=1e-6)
        assert negative == -1.5


@needs("batches.create")
def check_batches(world: World) -> None:
    client = world.client()
    body = {"model": world.model, "messages": [{"role": "user", "content": "hello"}]}
    line = {"custom_id": "1", "method": "POST", "url": "/v1/chat/completions", "body": body}
    file = client.files.create(file=("batch.jsonl", json.dumps(line).encode()), purpose="batch")
    batch = client.batches.create(
        input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h", metadata={"a": "b"}
    )
    assert batch.object == "batch"
    assert client.batches.retrieve(batch.id).metadata == {"a": "b"}
    assert batch.id in [each.id for each in client.batches.list(limit=1)]
    assert client.batches.cancel(batch.id).status in {"cancelling", "cancelled"}


@needs("webhooks.unwrap")
def check_webhooks_unwrap(world: World) -> None:
    sent: Any = world.webhook
    event = world.client().webhooks.unwrap(sent["body"], sent["headers"], secret=sent["secret"])
    assert (event.type, event.data.id) == ("fine_tuning.job.succeeded", world.job)
    with raises(openai.InvalidWebhookSignatureError):
        world.client().webhooks.unwrap(sent["body"] + " ", sent["headers"], secret=sent["secret"])

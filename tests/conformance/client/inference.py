"""Checks of models, complete and streamed chats, embeddings, batches and webhooks."""

from __future__ import annotations

import json
import math
from typing import Any, Literal

import openai
from pydantic import BaseModel

from tests.conformance.client.context import CheckContext, raises, requires

TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}

IGNORED_FIELDS = {
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
    "safety_identifier": "a-user",
    "service_tier": "auto",
    "store": False,
    "tool_choice": "auto",
    "tools": [],
    "user": "u",
    "verbosity": "low",
}
"""Fields that OpenAI documents, with values that do not change the completion."""


class Kind(BaseModel):
    kind: Literal["animal", "color"]


def create_chat_completion(context: CheckContext, content: str, **values: Any) -> Any:
    return context.get_client().chat.completions.create(
        model=context.model, messages=[{"role": "user", "content": content}], **values
    )


def join_text(stream: Any) -> str:
    return "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)


def check_models_with_slashes_and_colons(context: CheckContext) -> None:
    client = context.get_client()
    listed = {listed_model.id: listed_model for listed_model in client.models.list()}
    for name in (context.model, context.slashed_model, context.deletable_slashed_model, "starter"):
        model = client.models.retrieve(name)
        assert (model.id, model.object, model.created) == (name, "model", listed[name].created)
    deleted = client.models.delete(context.deletable_slashed_model)
    assert (deleted.id, deleted.deleted) == (context.deletable_slashed_model, True)
    with raises(openai.NotFoundError) as raised:
        client.models.retrieve(context.deletable_slashed_model)
    raised.assert_matches(404, "model_not_found", "model")


def check_chat(context: CheckContext) -> None:
    completion = create_chat_completion(context, "hello")
    choice = completion.choices[0]
    assert (choice.message.role, choice.message.content, choice.finish_reason) == (
        "assistant",
        "You said hello.",
        "stop",
    )
    assert completion.usage.total_tokens == completion.usage.prompt_tokens + completion.usage.completion_tokens
    assert completion.model == context.model


def check_chat_accepts_fields_without_effect(context: CheckContext) -> None:
    assert (
        create_chat_completion(context, "hello", extra_body=IGNORED_FIELDS).choices[0].message.content
        == "You said hello."
    )


def check_chat_refuses_unsupported_fields(context: CheckContext) -> None:
    with raises(openai.BadRequestError) as raised:
        create_chat_completion(context, "hello", functions=[TOOL["function"]])
    raised.assert_matches(400, "unsupported_parameter", "functions")


def check_chat_accepts_tools(context: CheckContext) -> None:
    for choice in ("none", "auto", "required"):
        assert create_chat_completion(context, "hello", tools=[TOOL], tool_choice=choice).choices
    with raises(openai.BadRequestError) as raised:
        create_chat_completion(context, "hello", tool_choice="required")
    raised.assert_matches(400, "invalid_value", "tool_choice")


def check_chat_accepts_formats(context: CheckContext) -> None:
    assert (
        create_chat_completion(context, "{}", response_format={"type": "json_object"}).choices[0].message.content
        == "{}"
    )
    with raises(openai.BadRequestError) as raised:
        create_chat_completion(context, "{}", response_format={"type": "json_schema"})
    raised.assert_matches(400, "missing_required_parameter", "response_format.json_schema")


@requires("chat.completions.parse")
def check_chat_parses_an_answer_into_a_model(context: CheckContext) -> None:
    messages = [{"role": "user", "content": '{"kind": "animal"}'}]
    completion = context.get_client().chat.completions.parse(
        model=context.model, messages=messages, response_format=Kind
    )
    assert completion.choices[0].message.parsed == Kind(kind="animal")


@requires("chat.completions.parse")
def check_chat_parses_a_forced_call_into_a_model(context: CheckContext) -> None:
    tools = [openai.pydantic_function_tool(Kind)]
    choice = {"type": "function", "function": {"name": "Kind"}}
    messages = [{"role": "user", "content": '{"kind": "color"}'}]
    completion = context.get_client().chat.completions.parse(
        model=context.model, messages=messages, tools=tools, tool_choice=choice
    )
    [call] = completion.choices[0].message.tool_calls
    assert call.function.parsed_arguments == Kind(kind="color")


def check_chat_stream(context: CheckContext) -> None:
    chunks = list(create_chat_completion(context, "hello", stream=True))
    assert {chunk.object for chunk in chunks} == {"chat.completion.chunk"}
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [chunk.choices[0].finish_reason for chunk in chunks] == [None] * (len(chunks) - 1) + ["stop"]
    assert join_text(chunks) == "You said hello"


def check_slow_tokens_and_keep_alives(context: CheckContext) -> None:
    body = {"model": context.model, "messages": [{"role": "user", "content": "slow start"}], "stream": True}
    stream = context.post_raw("/chat/completions", body)
    assert stream.startswith(b": ping\n\n"), "the server sent no keep-alive before the first token"
    assert stream.endswith(b"data: [DONE]\n\n")
    assert join_text(create_chat_completion(context, "slow start", stream=True)) == "You said slow start"


def check_error_in_mid_stream(context: CheckContext) -> None:
    text = ""
    with raises(openai.APIError) as raised:
        for chunk in create_chat_completion(context, "fail", stream=True):
            text += chunk.choices[0].delta.content or ""
    assert text == "You ", "the client keeps the text that preceded the error"
    assert (raised.error.type, bool(raised.error.message)) == ("server_error", True)


def check_a_stream_that_ends_too_soon(context: CheckContext) -> None:
    with raises(openai.APIError):
        list(create_chat_completion(context, "vanish", stream=True))


def check_a_stream_closed_early(context: CheckContext) -> None:
    stream = create_chat_completion(context, "endless", stream=True)
    for _ in zip(range(5), stream, strict=False):
        pass
    stream.response.close()


def check_errors_of_the_engine(context: CheckContext) -> None:
    with raises(openai.BadRequestError) as raised:
        create_chat_completion(context, "too long")
    raised.assert_matches(400, "context_length_exceeded", "messages")
    with raises(openai.InternalServerError) as raised:
        create_chat_completion(context, "busy")
    raised.assert_matches(503, "engine_overloaded")
    assert int(raised.error.response.headers["retry-after"]) > 0


def check_completions(context: CheckContext) -> None:
    client = context.get_client()
    assert client.completions.create(model="starter", prompt="Once").choices[0].text == "and so on"
    # The strict client rejects a null finish_reason here, although OpenAI sends it.
    stream = context.get_client(strict=False).completions.create(model="starter", prompt="Once", stream=True)
    assert "".join(chunk.choices[0].text for chunk in stream) == "and so on"


def check_embeddings_as_base64_and_as_numbers(context: CheckContext) -> None:
    """The client requests base64 by default and decodes it. A strict client rejects base64
    first."""
    client = context.get_client(strict=False)
    base64_response = client.embeddings.create(model="encoder", input=["a", "b"])
    float_response = client.embeddings.create(model="encoder", input=["a", "b"], encoding_format="float")
    for response in (base64_response, float_response):
        assert [row.index for row in response.data] == [0, 1]
        third, negative = response.data[0].embedding
        assert math.isclose(third, 1 / 3, rel_tol=1e-6)
        assert negative == -1.5


@requires("batches.create")
def check_batches(context: CheckContext) -> None:
    client = context.get_client()
    body = {"model": context.model, "messages": [{"role": "user", "content": "hello"}]}
    line = {"custom_id": "1", "method": "POST", "url": "/v1/chat/completions", "body": body}
    file = client.files.create(file=("batch.jsonl", json.dumps(line).encode()), purpose="batch")
    batch = client.batches.create(
        input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h", metadata={"a": "b"}
    )
    assert batch.object == "batch"
    assert client.batches.retrieve(batch.id).metadata == {"a": "b"}
    assert batch.id in [listed.id for listed in client.batches.list(limit=1)]
    assert client.batches.cancel(batch.id).status in {"cancelling", "cancelled"}


@requires("webhooks.unwrap")
def check_webhooks_unwrap(context: CheckContext) -> None:
    delivery: Any = context.webhook
    event = context.get_client().webhooks.unwrap(delivery["body"], delivery["headers"], secret=delivery["secret"])
    assert (event.type, event.data.id) == ("fine_tuning.job.succeeded", context.job)
    with raises(openai.InvalidWebhookSignatureError):
        context.get_client().webhooks.unwrap(delivery["body"] + " ", delivery["headers"], secret=delivery["secret"])

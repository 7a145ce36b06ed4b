"""Request bodies of chat completions and completions: every field is bounded, and every error names
its field."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
from openai.types import completion_create_params
from openai.types.chat import ChatCompletionMessage
from openai.types.chat.completion_create_params import CompletionCreateParamsStreaming
from pydantic import BaseModel, ValidationError

from inference.protocol.errors import STATUS_BY_CODE, EngineError, EngineUnavailable
from inference.protocol.generation import ChatCompletionRequest, CompletionRequest
from inference.protocol.model_ref import ModelRef
from inference.protocol.validation import to_validation_issue
from training.tasks.chat_format.rows import Message

USER = {"role": "user", "content": "hi"}
CHAT_BODY = {"model": "m", "messages": [USER]}
COMPLETION_BODY = {"model": "m", "prompt": "Once"}

TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}, "strict": True}}


def build_call_message(arguments: Any = "{}") -> dict[str, Any]:
    call = {"id": "a", "type": "function", "function": {"name": "f", "arguments": arguments}}
    return {"role": "assistant", "content": None, "tool_calls": [call]}


def build_allowed_tools(*tools: dict[str, Any], mode: str = "auto") -> dict[str, Any]:
    return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": list(tools)}}


def build_json_schema_format(**values: Any) -> dict[str, Any]:
    return {"response_format": {"type": "json_schema", "json_schema": {"name": "a", **values}}}


NAMED, UNKNOWN = ({"type": "function", "function": {"name": name}} for name in "fg")

CALL_MESSAGE, RESULT = build_call_message(), {"role": "tool", "tool_call_id": "a", "content": "x"}

ACCEPTED: list[dict[str, Any]] = [
    {"messages": [{"role": role, "content": "x"} for role in ("system", "developer", "user", "assistant")]},
    {"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}]},
    {"messages": [{**USER, "name": "ann"}]},
    {"max_tokens": 1, "max_completion_tokens": 1_000_000},
    {"temperature": 0, "top_p": 1},
    {"temperature": 2.0, "top_p": 0.0, "n": 16, "seed": -(2**63)},
    {"stop": "x"},
    {"stop": ["a", "b", "c", "d"]},
    {"stop": None},
    {"stream": True, "stream_options": {"include_usage": True, "include_obfuscation": False}},
    {"frequency_penalty": -2, "presence_penalty": 2.0, "logit_bias": {"5": -100, "7": 1.5}},
    {"logprobs": True, "top_logprobs": 20},
    {"metadata": {"a": "b"}, "user": "u", "service_tier": "auto", "safety_identifier": "s", "prompt_cache_key": "k"},
    {"store": False, "parallel_tool_calls": True, "reasoning_effort": "low", "verbosity": "low"},
    {"prompt_cache_retention": "24h", "prompt_cache_options": {}},
    {"tools": [TOOL], "tool_choice": "auto", "parallel_tool_calls": False},
    {"messages": [USER, CALL_MESSAGE, RESULT, USER]},
    {"tools": [], "tool_choice": "none", "function_call": "none", "functions": None},
    {"tools": [TOOL], "tool_choice": "required"},
    {"tools": [TOOL], "tool_choice": NAMED},
    {"tools": [TOOL], "tool_choice": build_allowed_tools(NAMED)},
    {"tools": [TOOL], "tool_choice": build_allowed_tools(NAMED, mode="required"), "response_format": None},
    {"tool_choice": "auto", "response_format": {"type": "json_object"}},
    build_json_schema_format(schema={"$ref": "#"}, strict=True),
    build_json_schema_format(schema=None, description="b"),
    {"response_format": {"type": "text"}, "modalities": ["text"], "audio": None, "prediction": None},
    {"audio": {"voice": "x", "format": "wav"}, "prediction": {"type": "content", "content": "x"}},
]

REFUSED: list[tuple[dict[str, Any], str, str]] = [
    ({"tools": [{"type": "custom", "custom": {"name": "f"}}]}, "invalid_request", "tools.0.type"),
    ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "invalid_request", "tools.0.function.name"),
    ({"tools": [TOOL] * 129}, "invalid_request", "tools"),
    ({"tools": [TOOL], "tool_choice": "any"}, "invalid_request", "tool_choice"),
    ({"tools": [TOOL], "tool_choice": TOOL}, "unknown_parameter", "tool_choice.function.parameters"),
    ({"tools": [TOOL], "tool_choice": UNKNOWN}, "invalid_request", "tool_choice"),
    ({"tools": [TOOL], "tool_choice": {"type": "function"}}, "missing_required_parameter", "tool_choice.function"),
    ({"tools": [TOOL], "tool_choice": {"type": "custom", "custom": {"name": "f"}}}, "invalid_value", "tool_choice"),
    ({"tools": [TOOL], "tool_choice": {"function": {"name": "f"}}}, "invalid_value", "tool_choice"),
    ({"tools": [TOOL], "tool_choice": build_allowed_tools(NAMED, UNKNOWN)}, "invalid_request", "tool_choice"),
    ({"tools": [TOOL], "tool_choice": build_allowed_tools()}, "invalid_request", "tool_choice.allowed_tools.tools"),
    (
        {"tools": [TOOL], "tool_choice": build_allowed_tools(NAMED, mode="x")},
        "invalid_request",
        "tool_choice.allowed_tools.mode",
    ),
    ({"tool_choice": NAMED}, "invalid_request", "tool_choice"),
    ({"tool_choice": 3}, "invalid_value", "tool_choice"),
    ({"functions": [{"name": "f"}]}, "unsupported_parameter", "functions"),
    ({"tool_choice": "required"}, "invalid_request", "tool_choice"),
    ({"tools": [], "tool_choice": "required"}, "invalid_request", "tool_choice"),
    ({"function_call": {"name": "f"}}, "unsupported_parameter", "function_call"),
    ({"response_format": {"type": "regex", "pattern": "(a+)+$"}}, "invalid_value", "response_format"),
    ({"response_format": {"type": "json_schema"}}, "missing_required_parameter", "response_format.json_schema"),
    ({"response_format": {"type": "json_object", "schema": {}}}, "unknown_parameter", "response_format.schema"),
    (build_json_schema_format(name="a b"), "invalid_request", "response_format.json_schema.name"),
    (build_json_schema_format(schema=[]), "invalid_request", "response_format.json_schema.schema"),
    (build_json_schema_format(schema={"a": "b" * 65_536}), "invalid_request", "response_format.json_schema.schema"),
    (build_json_schema_format(schemata={}), "unknown_parameter", "response_format.json_schema.schemata"),
    ({"modalities": ["text", "audio"]}, "unsupported_parameter", "modalities"),
    ({"messages": [{**USER, "audio": {"id": "x"}}]}, "unsupported_parameter", "messages.0.audio"),
    ({"web_search_options": {}}, "unsupported_parameter", "web_search_options"),
    ({"moderation": {"x": 1}}, "unsupported_parameter", "moderation"),
    ({"store": True}, "unsupported_parameter", "store"),
    ({"messages": [{**CALL_MESSAGE, "role": "user"}]}, "invalid_request", "messages.0.tool_calls"),
    ({"messages": [{"role": "assistant"}]}, "missing_required_parameter", "messages.0.content"),
    ({"messages": [USER, {"role": "tool", "content": "x"}]}, "missing_required_parameter", "messages.1.tool_call_id"),
    ({"messages": [{**USER, "tool_call_id": "x"}]}, "invalid_request", "messages.0.tool_call_id"),
    ({"messages": [RESULT, CALL_MESSAGE]}, "invalid_request", "messages"),
    *(
        ({"messages": [build_call_message(arguments)]}, "invalid_request", "messages.0.tool_calls.0.function.arguments")
        for arguments in ("", "[1]", '{"a": NaN}', {})
    ),
    ({"best_of": 3}, "unknown_parameter", "best_of"),
    ({"messages": [{**USER, "mood": "x"}]}, "unknown_parameter", "messages.0.mood"),
    ({"messages": []}, "invalid_request", "messages"),
    ({"messages": "hi"}, "invalid_request", "messages"),
    ({"messages": [{"role": "function", "content": "x"}]}, "invalid_request", "messages.0.role"),
    ({"messages": [{"role": "user", "content": None}]}, "missing_required_parameter", "messages.0.content"),
    ({"messages": [{"role": "user", "content": []}]}, "invalid_request", "messages.0.content"),
    ({"messages": [{"role": "user", "content": 7}]}, "invalid_request", "messages.0.content"),
    ({"messages": [{"role": "user", "content": "x" * 1_000_001}]}, "invalid_request", "messages.0.content"),
    (
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
        "invalid_request",
        "messages.0.content.0.type",
    ),
    ({"messages": [USER] * 2049}, "invalid_request", "messages"),
    ({"n": 0}, "invalid_request", "n"),
    ({"n": 17}, "invalid_request", "n"),
    ({"n": 1.0}, "invalid_request", "n"),
    ({"max_tokens": 10**9}, "invalid_request", "max_tokens"),
    ({"max_completion_tokens": 0}, "invalid_request", "max_completion_tokens"),
    ({"temperature": -1}, "invalid_request", "temperature"),
    ({"temperature": float("nan")}, "invalid_request", "temperature"),
    ({"temperature": "1"}, "invalid_request", "temperature"),
    ({"top_p": 1.5}, "invalid_request", "top_p"),
    ({"seed": 2**70}, "invalid_request", "seed"),
    ({"seed": True}, "invalid_request", "seed"),
    ({"stop": ["x"] * 10_000}, "invalid_request", "stop"),
    ({"stop": ""}, "invalid_request", "stop"),
    ({"stop": ["a", ""]}, "invalid_request", "stop.1"),
    ({"logit_bias": {"x": 1}}, "invalid_request", "logit_bias.x"),
    ({"logit_bias": {"1": 101}}, "invalid_request", "logit_bias.1"),
    ({"logit_bias": {str(token): 0 for token in range(1025)}}, "invalid_request", "logit_bias"),
    ({"frequency_penalty": 2.1}, "invalid_request", "frequency_penalty"),
    ({"top_logprobs": 3}, "invalid_request", "top_logprobs"),
    ({"logprobs": True, "top_logprobs": 21}, "invalid_request", "top_logprobs"),
    ({"stream_options": {"include_usage": True}}, "invalid_request", "stream_options"),
    ({"stream": True, "stream_options": {"x": 1}}, "unknown_parameter", "stream_options.x"),
    ({"metadata": {str(key): "" for key in range(17)}}, "invalid_request", "metadata"),
    ({"model": ""}, "invalid_request", "model"),
    ({"model": "x" * 300}, "invalid_request", "model"),
]


COMPLETIONS_ACCEPTED: list[dict[str, Any]] = [
    {"prompt": ""},
    {"prompt": ["a", ""]},
    {"prompt": [1, 2, 3]},
    {"prompt": [[1], [2, 3]]},
    {"prompt": ["a"] * 16, "n": 16},
    {"max_tokens": 0, "echo": True, "logprobs": 5},
    {"max_tokens": None, "temperature": 0, "top_p": 1, "n": 2, "best_of": 2, "stop": ["a"], "seed": 1, "user": "u"},
    {"best_of": 1},
    {"suffix": None},
    {"suffix": ""},
    {"stream": True, "stream_options": {"include_usage": True}},
    {"frequency_penalty": 1, "presence_penalty": 1, "logit_bias": {"5": 1}},
]

COMPLETIONS_REFUSED: list[tuple[dict[str, Any], str, str]] = [
    ({"suffix": "end"}, "unsupported_parameter", "suffix"),
    ({"best_of": 2}, "unsupported_parameter", "best_of"),
    ({"n": 2, "best_of": 1}, "unsupported_parameter", "best_of"),
    ({"messages": [USER]}, "unknown_parameter", "messages"),
    ({"max_completion_tokens": 1}, "unknown_parameter", "max_completion_tokens"),
    ({"prompt": None}, "invalid_request", "prompt"),
    ({"prompt": []}, "invalid_request", "prompt"),
    ({"prompt": [[]]}, "invalid_request", "prompt.0"),
    ({"prompt": ["a", 3]}, "invalid_request", "prompt.1"),
    ({"prompt": [3, "a"]}, "invalid_request", "prompt.1"),
    ({"prompt": [-1]}, "invalid_request", "prompt.0"),
    ({"prompt": [[1], [True]]}, "invalid_request", "prompt.1.0"),
    ({"prompt": [1.5]}, "invalid_request", "prompt.0"),
    ({"prompt": {}}, "invalid_request", "prompt"),
    ({"prompt": "x" * 1_000_001}, "invalid_request", "prompt"),
    ({"prompt": ["a"] * 257}, "invalid_request", "prompt"),
    ({"prompt": ["a"] * 17, "n": 16}, "invalid_request", "prompt"),
    ({"logprobs": 6}, "invalid_request", "logprobs"),
    ({"logprobs": True}, "invalid_request", "logprobs"),
    ({"max_tokens": -1}, "invalid_request", "max_tokens"),
    ({"stream_options": {}}, "invalid_request", "stream_options"),
]

BODIES: list[tuple[type[BaseModel], dict[str, Any], list[dict[str, Any]], list[tuple[dict[str, Any], str, str]]]] = [
    (ChatCompletionRequest, CHAT_BODY, ACCEPTED, REFUSED),
    (CompletionRequest, COMPLETION_BODY, COMPLETIONS_ACCEPTED, COMPLETIONS_REFUSED),
]
VALID_BODIES = [(model, {**body, **patch}) for model, body, patches, _ in BODIES for patch in patches]
INVALID_BODIES = [
    (model, {**body, **patch}, code, param) for model, body, _, invalid in BODIES for patch, code, param in invalid
]


@pytest.mark.parametrize(("model", "body"), VALID_BODIES)
def test_accepted(model: type[BaseModel], body: dict[str, Any]) -> None:
    model.model_validate(body)


@pytest.mark.parametrize(("model", "body", "code", "param"), INVALID_BODIES)
def test_an_invalid_field_is_named(model: type[BaseModel], body: dict[str, Any], code: str, param: str) -> None:
    with pytest.raises(ValidationError) as caught:
        model.model_validate(body)
    error = EngineError.from_validation_error(caught.value)
    assert (error.status, error.code) == (400, code)
    assert error.param is not None
    assert error.param.endswith(param)
    assert param.split(".")[-1] in error.message


@pytest.mark.parametrize(
    ("model", "body", "message"),
    [
        (ChatCompletionRequest, {**CHAT_BODY, "stop": {}}, "Invalid 'stop': it must be a string or an array."),
        (
            ChatCompletionRequest,
            {"model": "m", "messages": [{"role": "user", "content": {}}]},
            "Invalid 'messages.0.content': it must be a string or an array.",
        ),
        (CompletionRequest, {**COMPLETION_BODY, "stop": {}}, "Invalid 'stop': it must be a string or an array."),
    ],
)
def test_a_value_of_the_wrong_json_type_is_explained(
    model: type[BaseModel], body: dict[str, Any], message: str
) -> None:
    """Neither the API's nor the engine's message contains the names of discriminators and tags."""
    with pytest.raises(ValidationError) as caught:
        model.model_validate(body)
    errors = [{**error, "loc": ("body", *error["loc"])} for error in caught.value.errors()]
    assert to_validation_issue(errors, body).message == message
    error = EngineError.from_validation_error(caught.value)
    assert (error.code, error.message) == ("invalid_value", message)


@pytest.mark.parametrize("field", ["model", "messages"])
def test_a_missing_field_is_named(field: str) -> None:
    with pytest.raises(ValidationError) as caught:
        ChatCompletionRequest.model_validate({name: value for name, value in CHAT_BODY.items() if name != field})
    error = EngineError.from_validation_error(caught.value)
    assert (error.code, error.param) == ("missing_required_parameter", field)


def test_every_field_of_openais_documentation_is_known() -> None:
    documented = set(CompletionCreateParamsStreaming.__annotations__)
    for base in CompletionCreateParamsStreaming.__orig_bases__:
        documented |= set(base.__annotations__)
    assert documented >= {"messages", "temperature", "web_search_options"}
    assert documented | {"chat_template_kwargs"} == set(ChatCompletionRequest.model_fields)
    base = completion_create_params.CompletionCreateParamsBase.__annotations__
    assert set(base) | {"stream"} == set(CompletionRequest.model_fields)


def test_a_message_of_a_response_can_be_sent_back() -> None:
    message = ChatCompletionMessage(role="assistant", content="hello").model_dump()
    request = ChatCompletionRequest.model_validate({**CHAT_BODY, "messages": [USER, message, USER]})
    assert request.messages[1].to_message_dict() == {"role": "assistant", "content": "hello"}


def test_messages_are_converted_to_plain_text() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    messages = [{"role": "developer", "content": "be brief"}, {"role": "user", "content": parts}]
    request = ChatCompletionRequest.model_validate({**CHAT_BODY, "messages": messages})
    expected = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "ab"}]
    assert [message.to_message_dict() for message in request.messages] == expected


def test_a_call_survives_serialization() -> None:
    request = ChatCompletionRequest.model_validate(
        {**CHAT_BODY, "messages": [USER, CALL_MESSAGE, RESULT], "tools": [TOOL]}
    )
    again = ChatCompletionRequest.model_validate(request.model_dump(exclude_unset=True))
    assert again == request
    assert again.messages[1].to_message_dict() == {**CALL_MESSAGE, "content": ""}
    assert Message.model_validate(again.messages[1].to_message_dict()).list_tool_calls(1)[0].function.arguments == {}
    assert again.offered_tools
    assert not again.model_copy(update={"tool_choice": "none"}).offered_tools


def test_structured_output_survives_serialization() -> None:
    schema = {"type": "object", "properties": {"schema": {"type": "string"}}}
    choice = build_allowed_tools(NAMED, mode="required")
    body = {**CHAT_BODY, **build_json_schema_format(schema=schema), "tools": [TOOL], "tool_choice": choice}
    sent = ChatCompletionRequest.model_validate(body).model_dump(exclude_unset=True)
    assert sent == body
    assert ChatCompletionRequest.model_validate_json(json.dumps(sent)).must_call


@pytest.mark.parametrize(
    ("choice", "must_call", "allowed"),
    [
        (None, False, "fg"),
        ("auto", False, "fg"),
        ("none", False, ""),
        ("required", True, "fg"),
        (UNKNOWN, True, "g"),
        (build_allowed_tools(UNKNOWN), False, "g"),
        (build_allowed_tools(NAMED, UNKNOWN, mode="required"), True, "fg"),
    ],
)
def test_allowed_and_forced_tools_of_a_tool_choice(choice: Any, must_call: bool, allowed: str) -> None:
    request = ChatCompletionRequest.model_validate({**CHAT_BODY, "tools": [NAMED, UNKNOWN], "tool_choice": choice})
    assert request.must_call == must_call
    assert [tool.function.name for tool in request.allowed_tools] == list(allowed)


@pytest.mark.parametrize(
    ("prompt", "prompts"),
    [("a", ["a"]), (["a", "b"], ["a", "b"]), ([1, 2], [[1, 2]]), ([[1], [2, 3]], [[1], [2, 3]])],
)
def test_prompts_are_a_list(prompt: Any, prompts: list[Any]) -> None:
    assert CompletionRequest.model_validate({"model": "m", "prompt": prompt}).prompts == prompts


def test_json_schemas_can_be_written() -> None:
    for model in (ChatCompletionRequest, CompletionRequest):
        assert json.dumps(model.model_json_schema())


@pytest.mark.parametrize(
    "patch",
    [
        {"prefix": "../../etc", "manifest_sha256": "0" * 64, "update": "lora"},
        {"prefix": "/etc", "manifest_sha256": "0" * 64, "update": "lora"},
        {"prefix": "models/a", "manifest_sha256": "../x", "update": "lora"},
        {"prefix": "models/a", "update": "lora"},
        {"prefix": "models/a", "manifest_sha256": "0" * 64},
        {"update": "full"},
        {"part": "../"},
        {"path": "/models/x"},
    ],
)
def test_a_reference_is_a_base_or_a_result_without_a_path(patch: dict[str, Any]) -> None:
    base = {"id": "starter", "base": "starter", "task": "chat", "update": "none"}
    ModelRef.model_validate(base)
    with pytest.raises(ValidationError):
        ModelRef.model_validate(base | patch)


@pytest.mark.parametrize("code", sorted(STATUS_BY_CODE))
def test_errors_survive_the_wire(code: str) -> None:
    sent = EngineUnavailable("why", code) if STATUS_BY_CODE[code] == 503 else EngineError(code, "why", "field")
    received = EngineError.from_body(json.loads(json.dumps(sent.to_body())))
    assert (type(received), received.code, received.status, received.message, received.param) == (
        type(sent),
        sent.code,
        sent.status,
        "why",
        sent.param,
    )
    assert set(sent.to_body()["error"]) == {"message", "type", "param", "code"}


def test_modules_that_the_api_imports_do_not_load_torch() -> None:
    modules = "inference.client, inference.protocol.model_ref, inference.protocol.pooling, inference.protocol.routes"
    code = f"import {modules}, sys; print('torch' in sys.modules)"
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert process.stdout.strip() == "False"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"chat_template_kwargs": {"tools": True}}, "chat_template_kwargs"),
        ({"chat_template_kwargs": {"enable_thinking": "yes"}}, "chat_template_kwargs"),
        ({"chat_template_kwargs": {"reasoning_effort": True}}, "chat_template_kwargs"),
        ({"reasoning_effort": "enormous"}, "reasoning_effort"),
    ],
)
def test_variables_of_the_chat_template_come_from_a_list(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(ValidationError) as caught:
        ChatCompletionRequest.model_validate({**CHAT_BODY, **fields})
    error = EngineError.from_validation_error(caught.value)
    assert error.param == param
    if fields == {"chat_template_kwargs": {"tools": True}}:
        assert "enable_thinking, thinking, reasoning_effort" in error.message


def test_reasoning_of_a_message_can_be_sent_back_by_either_name() -> None:
    for name in ("reasoning_content", "reasoning"):
        message = {"role": "assistant", "content": "4", name: "Two and two."}
        request = ChatCompletionRequest.model_validate({**CHAT_BODY, "messages": [USER, message, USER]})
        assert request.messages[1].to_message_dict()["reasoning_content"] == "Two and two."

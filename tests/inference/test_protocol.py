"""The bodies clients send: every field bounded, every fault named."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
from openai.types.chat import ChatCompletionMessage
from openai.types.chat.completion_create_params import CompletionCreateParamsStreaming
from pydantic import ValidationError

from inference.errors import CODES, EngineError, EngineUnavailable
from inference.protocol import ChatRequest, PredictionRequest
from inference.refs import ModelRef

USER = {"role": "user", "content": "hi"}
CHAT = {"model": "m", "messages": [USER]}

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
    {"tools": [], "tool_choice": "none", "function_call": "none", "functions": None},
    {"response_format": {"type": "text"}, "modalities": ["text"], "audio": None, "prediction": None},
]

REFUSED: list[tuple[dict[str, Any], str, str]] = [
    ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "unsupported_parameter", "tools"),
    ({"functions": [{"name": "f"}]}, "unsupported_parameter", "functions"),
    ({"tool_choice": "required"}, "unsupported_parameter", "tool_choice"),
    ({"function_call": {"name": "f"}}, "unsupported_parameter", "function_call"),
    ({"response_format": {"type": "json_object"}}, "unsupported_parameter", "response_format"),
    ({"response_format": {"type": "regex", "pattern": "(a+)+$"}}, "unsupported_parameter", "response_format"),
    ({"modalities": ["text", "audio"]}, "unsupported_parameter", "modalities"),
    ({"audio": {"voice": "x", "format": "wav"}}, "unsupported_parameter", "audio"),
    ({"prediction": {"type": "content", "content": "x"}}, "unsupported_parameter", "prediction"),
    ({"web_search_options": {}}, "unsupported_parameter", "web_search_options"),
    ({"moderation": {"x": 1}}, "unsupported_parameter", "moderation"),
    ({"store": True}, "unsupported_parameter", "store"),
    ({"messages": [{"role": "assistant", "content": "a", "tool_calls": [{}]}]}, "unsupported_parameter", "tool_calls"),
    ({"best_of": 3}, "unknown_parameter", "best_of"),
    ({"messages": [{**USER, "mood": "x"}]}, "unknown_parameter", "messages.0.mood"),
    ({"messages": []}, "invalid_request", "messages"),
    ({"messages": "hi"}, "invalid_request", "messages"),
    ({"messages": [{"role": "tool", "content": "x"}]}, "invalid_request", "messages.0.role"),
    ({"messages": [{"role": "user", "content": None}]}, "invalid_request", "messages.0.content"),
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


@pytest.mark.parametrize("patch", ACCEPTED, ids=lambda patch: ",".join(patch))
def test_accepted(patch: dict[str, Any]) -> None:
    ChatRequest.model_validate({**CHAT, **patch})


@pytest.mark.parametrize(("patch", "code", "param"), REFUSED, ids=lambda value: str(value)[:40])
def test_refused_by_name(patch: dict[str, Any], code: str, param: str) -> None:
    with pytest.raises(ValidationError) as caught:
        ChatRequest.model_validate({**CHAT, **patch})
    error = EngineError.from_validation(caught.value)
    assert (error.status, error.code) == (400, code)
    assert error.param is not None
    assert error.param.endswith(param)
    assert param.split(".")[-1] in error.message


@pytest.mark.parametrize("field", ["model", "messages"])
def test_a_missing_field_is_named(field: str) -> None:
    with pytest.raises(ValidationError) as caught:
        ChatRequest.model_validate({name: value for name, value in CHAT.items() if name != field})
    error = EngineError.from_validation(caught.value)
    assert (error.code, error.param) == ("missing_required_parameter", field)


def test_every_field_that_openai_documents_is_known() -> None:
    documented = set(CompletionCreateParamsStreaming.__annotations__)
    for base in CompletionCreateParamsStreaming.__orig_bases__:
        documented |= set(base.__annotations__)
    assert documented >= {"messages", "temperature", "web_search_options"}
    assert documented == set(ChatRequest.model_fields)


def test_an_answers_message_can_be_sent_back() -> None:
    answer = ChatCompletionMessage(role="assistant", content="hello").model_dump()
    request = ChatRequest.model_validate({**CHAT, "messages": [USER, answer, USER]})
    assert request.conversation()[1] == {"role": "assistant", "content": "hello"}


def test_a_conversation_is_plain() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    messages = [{"role": "developer", "content": "be brief"}, {"role": "user", "content": parts}]
    request = ChatRequest.model_validate({**CHAT, "messages": messages})
    assert request.conversation() == [{"role": "system", "content": "be brief"}, {"role": "user", "content": "ab"}]


def test_json_schemas_can_be_written() -> None:
    for model in (ChatRequest, PredictionRequest):
        assert json.dumps(model.model_json_schema())


@pytest.mark.parametrize(
    ("body", "rows"),
    [
        ({"inputs": ["a"]}, [{"text": "a"}]),
        (
            {"inputs": [{"text": "a", "text_pair": "b"}, "c"], "top_k": 5},
            [{"text": "a", "text_pair": "b"}, {"text": "c"}],
        ),
        ({"inputs": [{"tokens": ["a", "b"]}], "top_k": None}, [{"tokens": ["a", "b"]}]),
    ],
)
def test_inputs_are_rows(body: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    assert PredictionRequest.model_validate({"model": "m", **body}).rows() == rows


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"inputs": []}, "inputs"),
        ({"inputs": "a"}, "inputs"),
        ({"inputs": [3]}, "inputs.0"),
        ({"inputs": [{}]}, "inputs.0"),
        ({"inputs": [{"text": 3}]}, "inputs.0.text"),
        ({"inputs": ["a"] * 1025}, "inputs"),
        ({"inputs": ["a" * 1_000_000] * 17}, "inputs"),
        ({"inputs": ["a"], "top_k": 0}, "top_k"),
        ({"inputs": ["a"], "top_n": 1}, "top_n"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_bad_inputs_are_named(body: dict[str, Any], param: str) -> None:
    with pytest.raises(ValidationError) as caught:
        PredictionRequest.model_validate({"model": "m", **body})
    assert EngineError.from_validation(caught.value).param == param


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
def test_a_reference_is_a_base_or_a_result_and_holds_no_path(patch: dict[str, Any]) -> None:
    base = {"id": "starter", "base": "starter", "task": "chat", "update": "none"}
    ModelRef.model_validate(base)
    with pytest.raises(ValidationError):
        ModelRef.model_validate(base | patch)


@pytest.mark.parametrize("code", sorted(CODES))
def test_errors_survive_the_wire(code: str) -> None:
    sent = EngineUnavailable("why", code) if CODES[code] == 503 else EngineError(code, "why", "field")
    received = EngineError.from_body(json.loads(json.dumps(sent.body())))
    assert (type(received), received.code, received.status, received.message, received.param) == (
        type(sent),
        sent.code,
        sent.status,
        "why",
        sent.param,
    )
    assert set(sent.body()["error"]) == {"message", "type", "param", "code"}


def test_what_the_api_imports_loads_no_torch() -> None:
    code = "import inference.client, inference.refs, inference.protocol, sys; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"

"""Conversion of pydantic's errors to field paths, without the names of union branches."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel, TypeAdapter, ValidationError

from api.schemas.fine_tuning.jobs import JobIn
from inference.protocol.generation import ChatCompletionRequest
from inference.protocol.pooling import PredictionRequest
from inference.protocol.validation import ValidationIssue, to_validation_issue

JOB_BODY = {"model": "m", "training_file": "f"}
CHAT_BODY = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
PREDICTION_BODY = {"model": "m", "inputs": ["x"]}


def validate_and_get_error(model: type[BaseModel], body: Any) -> ValidationIssue:
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(model).validate_python(body)
    errors = [{**error, "loc": ("body", *error["loc"])} for error in caught.value.errors()]
    return to_validation_issue(errors, body)


INVALID_BODIES: list[tuple[type[BaseModel], Any, str | None, str]] = [
    (JobIn, {**JOB_BODY, "update": {"type": "lora", "rank": "8"}}, "update.rank", "invalid_value"),
    (JobIn, {**JOB_BODY, "update": "lora"}, "update", "invalid_value"),
    (JobIn, {**JOB_BODY, "update": {"type": "lora", "target_modules": 3}}, "update.target_modules", "invalid_value"),
    (JobIn, {**JOB_BODY, "integrations": [1]}, "integrations.0", "invalid_value"),
    (JobIn, [], None, "invalid_value"),
    (
        ChatCompletionRequest,
        {**CHAT_BODY, "messages": [{"role": "user"}]},
        "messages.0.content",
        "missing_required_parameter",
    ),
    (
        ChatCompletionRequest,
        {**CHAT_BODY, "messages": [{"role": "user", "content": 3}]},
        "messages.0.content",
        "invalid_value",
    ),
    (
        ChatCompletionRequest,
        {**CHAT_BODY, "tools": [{"type": "function"}]},
        "tools.0.function",
        "missing_required_parameter",
    ),
    (ChatCompletionRequest, {**CHAT_BODY, "tool_choice": "required"}, "tool_choice", "invalid_value"),
    (
        ChatCompletionRequest,
        {**CHAT_BODY, "tool_choice": {"type": "function"}},
        "tool_choice.function",
        "missing_required_parameter",
    ),
    (ChatCompletionRequest, {**CHAT_BODY, "response_format": {"type": "xml"}}, "response_format", "invalid_value"),
    (
        ChatCompletionRequest,
        {**CHAT_BODY, "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": 3}}},
        "response_format.json_schema.schema",
        "invalid_value",
    ),
    (
        ChatCompletionRequest,
        {**CHAT_BODY, "messages": [{"role": "user"}]},
        "messages.0.content",
        "missing_required_parameter",
    ),
    (
        ChatCompletionRequest,
        {**CHAT_BODY, "messages": [{"role": "tool"}]},
        "messages.0.tool_call_id",
        "missing_required_parameter",
    ),
    (ChatCompletionRequest, {**CHAT_BODY, "stop": ["a", 3]}, "stop.1", "invalid_value"),
    (ChatCompletionRequest, {**CHAT_BODY, "temperature": 3}, "temperature", "invalid_value"),
    (ChatCompletionRequest, {**CHAT_BODY, "logit_bias": {"1": 200}}, "logit_bias.1", "invalid_value"),
    (ChatCompletionRequest, {**CHAT_BODY, "color": 3}, "color", "unknown_parameter"),
    (PredictionRequest, {**PREDICTION_BODY, "inputs": [{"text": 3}]}, "inputs.0.text", "invalid_value"),
    (PredictionRequest, {**PREDICTION_BODY, "inputs": ["a", 3]}, "inputs.1", "invalid_value"),
    (PredictionRequest, {**PREDICTION_BODY, "top_k": 0}, "top_k", "invalid_value"),
]


@pytest.mark.parametrize(("model", "body", "param", "code"), INVALID_BODIES, ids=lambda value: str(value)[:50])
def test_param(model: type[BaseModel], body: Any, param: str | None, code: str) -> None:
    issue = validate_and_get_error(model, body)
    assert (issue.param, issue.code) == (param, code)
    assert param is None or f"'{param}'" in issue.message


def test_every_branch_of_a_union_is_reported() -> None:
    issue = validate_and_get_error(JobIn, {**JOB_BODY, "hyperparameters": {"n_epochs": 51}})
    assert issue.message == (
        "Invalid 'hyperparameters.n_epochs': Input should be 'auto', or Input should be less than or equal to 50."
    )


def test_a_discriminator_is_reported_without_the_input() -> None:
    issue = validate_and_get_error(JobIn, {**JOB_BODY, "update": {"type": "canary"}})
    assert issue.message == "Invalid 'update': 'type' must be one of 'lora', 'full', 'head', 'layers'."


def test_a_long_name_is_truncated() -> None:
    issue = validate_and_get_error(JobIn, {**JOB_BODY, "x" * 10_000: 1})
    assert issue.param == "x" * 256

"""From pydantic's errors to a field's path: what names a union's branch is not part of it."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel, TypeAdapter, ValidationError

from api.schemas.fine_tuning.jobs import JobIn
from inference.protocol.generation import ChatRequest
from inference.protocol.pooling import PredictionRequest
from inference.protocol.validation import Fault, fault_of

JOB = {"model": "m", "training_file": "f"}
CHAT = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
PREDICT = {"model": "m", "inputs": ["x"]}


def fault(model: type[BaseModel], body: Any) -> Fault:
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(model).validate_python(body)
    errors = [{**error, "loc": ("body", *error["loc"])} for error in caught.value.errors()]
    return fault_of(errors, body)


PATHS: list[tuple[type[BaseModel], Any, str | None, str]] = [
    (JobIn, {**JOB, "update": {"type": "lora", "rank": "8"}}, "update.rank", "invalid_value"),
    (JobIn, {**JOB, "update": "lora"}, "update", "invalid_value"),
    (JobIn, {**JOB, "update": {"type": "lora", "target_modules": 3}}, "update.target_modules", "invalid_value"),
    (JobIn, {**JOB, "integrations": [1]}, "integrations.0", "invalid_value"),
    (JobIn, [], None, "invalid_value"),
    (ChatRequest, {**CHAT, "messages": [{"role": "user"}]}, "messages.0.content", "missing_required_parameter"),
    (ChatRequest, {**CHAT, "messages": [{"role": "user", "content": 3}]}, "messages.0.content", "invalid_value"),
    (ChatRequest, {**CHAT, "tools": [{"type": "function"}]}, "tools.0.function", "missing_required_parameter"),
    (ChatRequest, {**CHAT, "tool_choice": "required"}, "tool_choice", "invalid_value"),
    (ChatRequest, {**CHAT, "tool_choice": {"type": "function"}}, "tool_choice.function", "missing_required_parameter"),
    (ChatRequest, {**CHAT, "response_format": {"type": "xml"}}, "response_format", "invalid_value"),
    (
        ChatRequest,
        {**CHAT, "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": 3}}},
        "response_format.json_schema.schema",
        "invalid_value",
    ),
    (ChatRequest, {**CHAT, "messages": [{"role": "user"}]}, "messages.0.content", "missing_required_parameter"),
    (ChatRequest, {**CHAT, "messages": [{"role": "tool"}]}, "messages.0.tool_call_id", "missing_required_parameter"),
    (ChatRequest, {**CHAT, "stop": ["a", 3]}, "stop.1", "invalid_value"),
    (ChatRequest, {**CHAT, "temperature": 3}, "temperature", "invalid_value"),
    (ChatRequest, {**CHAT, "logit_bias": {"1": 200}}, "logit_bias.1", "invalid_value"),
    (ChatRequest, {**CHAT, "colour": 3}, "colour", "unknown_parameter"),
    (PredictionRequest, {**PREDICT, "inputs": [{"text": 3}]}, "inputs.0.text", "invalid_value"),
    (PredictionRequest, {**PREDICT, "inputs": ["a", 3]}, "inputs.1", "invalid_value"),
    (PredictionRequest, {**PREDICT, "top_k": 0}, "top_k", "invalid_value"),
]


@pytest.mark.parametrize(("model", "body", "param", "code"), PATHS, ids=lambda value: str(value)[:50])
def test_param(model: type[BaseModel], body: Any, param: str | None, code: str) -> None:
    found = fault(model, body)
    assert (found.param, found.code) == (param, code)
    assert param is None or f"'{param}'" in found.message


def test_every_branch_of_a_union_is_told() -> None:
    found = fault(JobIn, {**JOB, "hyperparameters": {"n_epochs": 51}})
    assert found.message == (
        "Invalid 'hyperparameters.n_epochs': Input should be 'auto', or Input should be less than or equal to 50."
    )


def test_a_discriminator_is_told_without_the_input() -> None:
    found = fault(JobIn, {**JOB, "update": {"type": "canary"}})
    assert found.message == "Invalid 'update': 'type' must be one of 'lora', 'full', 'head', 'layers'."


def test_a_name_of_any_length_is_cut() -> None:
    found = fault(JobIn, {**JOB, "x" * 10_000: 1})
    assert found.param == "x" * 256

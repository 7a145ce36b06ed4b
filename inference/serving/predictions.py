"""Luthier's predictions: one answer for each input, in the fields of the model's task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from inference.pooling.predictor import Predictor
from inference.protocol.errors import EngineError
from inference.protocol.pooling import PredictionRequest
from training.tasks.base import AnyTask, Example, Family, RowIssue

MAX_TEXT_CHARACTERS = 1_000_000
"""A text's at most; a file's bytes in base64 may be more."""


async def predict(model: Predictor, model_name: str, request: PredictionRequest) -> dict[str, Any]:
    """The body of the answer. Raises ``EngineError``, whose ``param`` names the input."""
    task, rows = model.task, request.to_rows(model.task.default_field)
    inputs = [_parse_row(task, index, row) for index, row in enumerate(rows)]
    length = min(model.context, model.trained_length)

    def encode() -> list[Example]:
        # Inputs are cut where training cut its rows.
        return [
            _require_example(task, index, found)
            for index, found in enumerate(task.encode_inputs(inputs, model.processor, length))
        ]

    labels = max(1, model.num_labels)
    answers = await model.predict(encode, len(inputs), min(request.top_k or labels, labels))
    tokens = sum(answer.num_tokens for answer in answers)
    return {
        "object": "list",
        "model": model_name,
        "data": [{"index": index, **answer.fields} for index, answer in enumerate(answers)],
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }


def _parse_row(task: AnyTask, index: int, row: Mapping[str, Any]) -> BaseModel:
    for field, value in row.items():
        if field != task.file_field and isinstance(value, str) and len(value) > MAX_TEXT_CHARACTERS:
            raise EngineError(
                "invalid_request",
                f"A text may have {MAX_TEXT_CHARACTERS:,} characters at most.",
                f"inputs.{index}.{field}",
            )
    assert task.input_schema, "tasks that answer here say what they are asked"
    try:
        return task.input_schema.model_validate(row)
    except ValidationError as error:
        fault = EngineError.from_validation_error(error)
        raise EngineError(fault.code, fault.message, f"inputs.{index}.{fault.param}") from error


def _require_example(task: AnyTask, index: int, example: Example | RowIssue) -> Example:
    if isinstance(example, RowIssue):
        raise EngineError("invalid_request", example.message, f"inputs.{index}.{example.field or task.default_field}")
    return example


def build_probe(task: AnyTask) -> PredictionRequest:
    """Something that any model of the task can answer."""
    assert task.input_schema
    fields = {name for name, field in task.input_schema.model_fields.items() if field.is_required()} | {
        task.default_field
    }
    row: dict[str, str | list[str]] = {
        name: _PROBE_FILES[task.family] if name == task.file_field else "Hello" for name in sorted(fields)
    }
    return PredictionRequest(model="probe", inputs=[row], top_k=1)


_PROBE_FILES: Mapping[Family, str] = {
    "vision": "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGP4DwABAQEAsTj2FAAAAABJRU5ErkJggg=="
}
"""The smallest file of a kind, in base64: a PNG of one white pixel."""

"""Luthier's predictions: one output per input, with the fields of the model's task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from inference.pooling.predictor import Predictor
from inference.protocol.errors import EngineError
from inference.protocol.pooling import PredictionRequest
from training.tasks.base import AnyTask, Example, Family, RowIssue

MAX_TEXT_CHARACTERS = 1_000_000
"""Maximum characters of a text. A file in base64 may be longer."""


async def predict(model: Predictor, model_name: str, request: PredictionRequest) -> dict[str, Any]:
    """Compute the response body of ``/v1/predictions``.

    Raises ``EngineError``; ``param`` names the input.
    """
    task, rows = model.task, request.to_rows(model.task.default_field)
    inputs = [_parse_row(task, index, row) for index, row in enumerate(rows)]
    length = min(model.context, model.trained_length)

    def encode() -> list[Example]:
        # Inputs are truncated to the length to which training truncated its rows.
        return [
            _require_example(task, index, example)
            for index, example in enumerate(task.encode_inputs(inputs, model.processor, length))
        ]

    num_labels = max(1, model.num_labels)
    outputs = await model.predict(encode, len(inputs), min(request.top_k or num_labels, num_labels))
    num_tokens = sum(output.num_tokens for output in outputs)
    return {
        "object": "list",
        "model": model_name,
        "data": [{"index": index, **output.fields} for index, output in enumerate(outputs)],
        "usage": {"prompt_tokens": num_tokens, "total_tokens": num_tokens},
    }


def _parse_row(task: AnyTask, index: int, row: Mapping[str, Any]) -> BaseModel:
    for field, value in row.items():
        if field != task.file_field and isinstance(value, str) and len(value) > MAX_TEXT_CHARACTERS:
            raise EngineError(
                "invalid_request",
                f"A text must have at most {MAX_TEXT_CHARACTERS:,} characters; shorten it.",
                f"inputs.{index}.{field}",
            )
    assert task.input_schema, "every task of this route has an input schema"
    try:
        return task.input_schema.model_validate(row)
    except ValidationError as error:
        issue = EngineError.from_validation_error(error)
        raise EngineError(issue.code, issue.message, f"inputs.{index}.{issue.param}") from error


def _require_example(task: AnyTask, index: int, example: Example | RowIssue) -> Example:
    if isinstance(example, RowIssue):
        raise EngineError("invalid_request", example.message, f"inputs.{index}.{example.field or task.default_field}")
    return example


def build_probe(task: AnyTask) -> PredictionRequest:
    """Build a request that is valid for any model of the task."""
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
"""Task family -> smallest valid file in base64: a PNG of one white pixel."""

"""Lines of a batch's file: read one at a time, checked as a whole before the first is answered."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from inference.protocol.errors import EngineError
from training.readers.strict_json import InvalidInput, decode

MAX_LINES = 50_000
MAX_BYTES = 200 * 10**6
MAX_MODELS = 100
"""Different ones in one file."""
MAX_ERRORS = 100
"""Told of one file."""

_BOM = b"\xef\xbb\xbf"


class BatchRequest(BaseModel):
    """One request."""

    model_config = ConfigDict(extra="forbid", strict=True)

    custom_id: Annotated[str, StringConstraints(min_length=1, max_length=512)]
    method: Literal["POST"]
    url: str = Field(max_length=256)
    body: dict[str, Any]


@dataclass(frozen=True)
class BatchError:
    """Why the file is refused. ``line`` counts from 1, blank lines too."""

    code: str
    message: str
    param: str | None = None
    line: int | None = None


@dataclass
class InputReport:
    """What a look through the whole file gave."""

    total: int = 0
    models: dict[str, int] = field(default_factory=dict)
    """Model -> the first line that asks it."""
    errors: list[BatchError] = field(default_factory=list)

    def add_error(self, error: BatchError) -> None:
        if len(self.errors) < MAX_ERRORS:
            self.errors.append(error)


def read_requests(path: Path, max_line_bytes: int) -> Iterator[tuple[int, BatchRequest | BatchError]]:
    """Number and content of every line that is not blank."""
    with path.open("rb") as file:
        number = 0
        while data := file.readline(max_line_bytes + 1):
            number += 1
            if len(data) > max_line_bytes and not data.endswith(b"\n"):
                _skip_line(file)
                yield number, BatchError("line_too_long", f"A line has {max_line_bytes:,} bytes at most.", None, number)
                continue
            if number == 1:
                data = data.removeprefix(_BOM)
            if data.strip():
                yield number, _parse_line(data, number)


def _skip_line(file: Any) -> None:
    while (data := file.readline(1 << 20)) and not data.endswith(b"\n"):
        pass


def _parse_line(data: bytes, number: int) -> BatchRequest | BatchError:
    try:
        return BatchRequest.model_validate(decode(data.decode()))
    except UnicodeDecodeError:
        return BatchError("invalid_json_line", "The line is not UTF-8.", None, number)
    except InvalidInput as error:
        return BatchError(
            "invalid_json_line", f"The line is not the JSON that this server takes: {error}", None, number
        )
    except ValidationError as error:
        found = EngineError.from_validation_error(error)
        return BatchError(found.code, found.message, found.param, number)


def validate_input_file(path: Path, endpoint: str, max_line_bytes: int) -> InputReport:
    """Every line's frame; what is in its body is looked at when it is answered. Blocks; run it in a thread."""
    checked, seen = InputReport(), dict[str, int]()
    for number, line in read_requests(path, max_line_bytes):
        checked.total += 1
        if checked.total > MAX_LINES:
            checked.add_error(
                BatchError("too_many_lines", f"A batch has {MAX_LINES:,} requests at most; split it.", None, number)
            )
            break
        for fault in (
            [line] if isinstance(line, BatchError) else _validate_request(line, number, endpoint, seen, checked)
        ):
            checked.add_error(fault)
    if not checked.total:
        checked.add_error(BatchError("empty_file", "The file has no requests; write one JSON object a line."))
    return checked


def _validate_request(
    request: BatchRequest, number: int, endpoint: str, seen_ids: dict[str, int], report: InputReport
) -> Iterator[BatchError]:
    first = seen_ids.setdefault(request.custom_id, number)
    if first != number:
        yield BatchError(
            "duplicate_custom_id", f"Line {first} has this custom_id too; each needs its own.", "custom_id", number
        )
    if request.url != endpoint:
        yield BatchError(
            "invalid_url", f"The batch was made for '{endpoint}'; every line's url must be that.", "url", number
        )
    model = request.body.get("model")
    if not isinstance(model, str) or not 0 < len(model) <= 256:
        yield BatchError("missing_required_parameter", "The body must name a model.", "body.model", number)
        return
    if len(report.models) == MAX_MODELS and model not in report.models:
        yield BatchError(
            "too_many_models", f"A batch asks {MAX_MODELS} different models at most.", "body.model", number
        )
        return
    report.models.setdefault(model, number)

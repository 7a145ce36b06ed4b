"""Input file of a batch: read line by line, and validated before the first request runs."""

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
"""Different models per file."""
MAX_ERRORS = 100
"""Reported errors per file."""

_BOM = b"\xef\xbb\xbf"


class BatchRequest(BaseModel):
    """One request of the file."""

    model_config = ConfigDict(extra="forbid", strict=True)

    custom_id: Annotated[str, StringConstraints(min_length=1, max_length=512)]
    method: Literal["POST"]
    url: str = Field(max_length=256)
    body: dict[str, Any]


@dataclass(frozen=True)
class BatchError:
    """Reason for rejecting the file. ``line`` counts from 1 and includes blank lines."""

    code: str
    message: str
    param: str | None = None
    line: int | None = None


@dataclass
class InputReport:
    """Result of validating the complete file."""

    total: int = 0
    models: dict[str, int] = field(default_factory=dict)
    """Model -> first line that uses it."""
    errors: list[BatchError] = field(default_factory=list)

    def add_error(self, error: BatchError) -> None:
        if len(self.errors) < MAX_ERRORS:
            self.errors.append(error)


def read_requests(path: Path, max_line_bytes: int) -> Iterator[tuple[int, BatchRequest | BatchError]]:
    """Yield the line number and the parsed request of every line that is not blank."""
    with path.open("rb") as file:
        number = 0
        while data := file.readline(max_line_bytes + 1):
            number += 1
            if len(data) > max_line_bytes and not data.endswith(b"\n"):
                _skip_line(file)
                message = f"The line is longer than the limit of {max_line_bytes:,} bytes. Shorten the request."
                yield number, BatchError("line_too_long", message, None, number)
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
        return BatchError("invalid_json_line", "The line is not UTF-8. Encode the file as UTF-8.", None, number)
    except InvalidInput as error:
        message = f"The line is not valid JSON for this server: {error}"
        return BatchError("invalid_json_line", message, None, number)
    except ValidationError as error:
        engine_error = EngineError.from_validation_error(error)
        return BatchError(engine_error.code, engine_error.message, engine_error.param, number)


def validate_input_file(path: Path, endpoint: str, max_line_bytes: int) -> InputReport:
    """Validate all lines except their bodies, which are validated when the requests run.

    This blocks; run it in a thread.
    """
    report, seen_ids = InputReport(), dict[str, int]()
    for number, line in read_requests(path, max_line_bytes):
        report.total += 1
        if report.total > MAX_LINES:
            message = f"The file has more than {MAX_LINES:,} requests. Split it into several batches."
            report.add_error(BatchError("too_many_lines", message, None, number))
            break
        errors = [line] if isinstance(line, BatchError) else _validate_request(line, number, endpoint, seen_ids, report)
        for error in errors:
            report.add_error(error)
    if not report.total:
        report.add_error(BatchError("empty_file", "The file has no requests. Write one JSON object per line."))
    return report


def _validate_request(
    request: BatchRequest, number: int, endpoint: str, seen_ids: dict[str, int], report: InputReport
) -> Iterator[BatchError]:
    first_line = seen_ids.setdefault(request.custom_id, number)
    if first_line != number:
        message = f"Line {first_line} has the same custom_id. Give every line its own."
        yield BatchError("duplicate_custom_id", message, "custom_id", number)
    if request.url != endpoint:
        message = f"The batch's endpoint is '{endpoint}'. Set the url of every line to it."
        yield BatchError("invalid_url", message, "url", number)
    model = request.body.get("model")
    if not isinstance(model, str) or not 0 < len(model) <= 256:
        message = "The body must name a model in 1 to 256 characters."
        yield BatchError("missing_required_parameter", message, "body.model", number)
        return
    if len(report.models) == MAX_MODELS and model not in report.models:
        message = f"The file uses more than {MAX_MODELS} different models. Split it into several batches."
        yield BatchError("too_many_models", message, "body.model", number)
        return
    report.models.setdefault(model, number)

"""Lines of a batch's file: read one at a time, checked as a whole before the first is answered."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from inference.protocol.errors import EngineError
from training.readers.strict_json import Refused, decode

MAX_LINES = 50_000
MAX_BYTES = 200 * 10**6
MAX_MODELS = 100
"""Different ones in one file."""
MAX_FAULTS = 100
"""Told of one file."""

_BOM = b"\xef\xbb\xbf"


class Line(BaseModel):
    """One request."""

    model_config = ConfigDict(extra="forbid", strict=True)

    custom_id: Annotated[str, StringConstraints(min_length=1, max_length=512)]
    method: Literal["POST"]
    url: str = Field(max_length=256)
    body: dict[str, Any]


@dataclass(frozen=True)
class Fault:
    """Why the file is refused. ``line`` counts from 1, blank lines too."""

    code: str
    message: str
    param: str | None = None
    line: int | None = None


@dataclass
class Checked:
    """What a look through the whole file gave."""

    total: int = 0
    models: dict[str, int] = field(default_factory=dict)
    """Model -> the first line that asks it."""
    faults: list[Fault] = field(default_factory=list)

    def refuse(self, fault: Fault) -> None:
        if len(self.faults) < MAX_FAULTS:
            self.faults.append(fault)


def requests(path: Path, max_line: int) -> Iterator[tuple[int, Line | Fault]]:
    """Number and content of every line that is not blank."""
    with path.open("rb") as file:
        number = 0
        while data := file.readline(max_line + 1):
            number += 1
            if len(data) > max_line and not data.endswith(b"\n"):
                _skip(file)
                yield number, Fault("line_too_long", f"A line has {max_line:,} bytes at most.", None, number)
                continue
            if number == 1:
                data = data.removeprefix(_BOM)
            if data.strip():
                yield number, _read(data, number)


def _skip(file: Any) -> None:
    while (data := file.readline(1 << 20)) and not data.endswith(b"\n"):
        pass


def _read(data: bytes, number: int) -> Line | Fault:
    try:
        return Line.model_validate(decode(data.decode()))
    except UnicodeDecodeError:
        return Fault("invalid_json_line", "The line is not UTF-8.", None, number)
    except Refused as error:
        return Fault("invalid_json_line", f"The line is not the JSON that this server takes: {error}", None, number)
    except ValidationError as error:
        found = EngineError.from_validation(error)
        return Fault(found.code, found.message, found.param, number)


def check(path: Path, endpoint: str, max_line: int) -> Checked:
    """Every line's frame; what is in its body is looked at when it is answered. Blocks; run it in a thread."""
    checked, seen = Checked(), dict[str, int]()
    for number, line in requests(path, max_line):
        checked.total += 1
        if checked.total > MAX_LINES:
            checked.refuse(
                Fault("too_many_lines", f"A batch has {MAX_LINES:,} requests at most; split it.", None, number)
            )
            break
        for fault in [line] if isinstance(line, Fault) else _faults(line, number, endpoint, seen, checked):
            checked.refuse(fault)
    if not checked.total:
        checked.refuse(Fault("empty_file", "The file has no requests; write one JSON object a line."))
    return checked


def _faults(line: Line, number: int, endpoint: str, seen: dict[str, int], checked: Checked) -> Iterator[Fault]:
    first = seen.setdefault(line.custom_id, number)
    if first != number:
        yield Fault(
            "duplicate_custom_id", f"Line {first} has this custom_id too; each needs its own.", "custom_id", number
        )
    if line.url != endpoint:
        yield Fault(
            "invalid_url", f"The batch was made for '{endpoint}'; every line's url must be that.", "url", number
        )
    model = line.body.get("model")
    if not isinstance(model, str) or not 0 < len(model) <= 256:
        yield Fault("missing_required_parameter", "The body must name a model.", "body.model", number)
        return
    if len(checked.models) == MAX_MODELS and model not in checked.models:
        yield Fault("too_many_models", f"A batch asks {MAX_MODELS} different models at most.", "body.model", number)
        return
    checked.models.setdefault(model, number)

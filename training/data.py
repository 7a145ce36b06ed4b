"""From a data file to encoded examples, and everything that is wrong with it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from training import rows
from training.errors import InvalidDataset
from training.report import Fault
from training.rows import Bad, Record
from training.tasks.base import AnyTask, Flaw, State

FileRole = Literal["training_file", "validation_file", "general_file"]

CHUNK = 512
"""Rows encoded at a time: the tokenizer takes them together."""
FAULTS_KEPT = 100

# pydantic's names of what can be wrong -> ours and what to change. Others are told in pydantic's words.
_SCHEMA_FLAWS = {
    "missing": ("missing_field", "The field is missing; add it."),
    "extra_forbidden": ("unknown_field", "This field is not known here; remove it."),
    "string_type": ("wrong_type", "Must be a string."),
    "list_type": ("wrong_type", "Must be a list."),
    "model_type": ("wrong_type", "Must be an object."),
    "dict_type": ("wrong_type", "Must be an object."),
    "float_type": ("wrong_type", "Must be a number."),
    "too_short": ("empty_content", "The list is empty; add at least one."),
    "string_too_short": ("empty_content", "Must not be empty."),
}


@dataclass
class Dataset:
    """Examples in the file's order."""

    examples: list[Any] = field(default_factory=list)
    lines: list[int | None] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    fault_count: int = 0

    @property
    def tokens(self) -> int:
        return sum(example.size for example in self.examples)

    @property
    def longest(self) -> int:
        return max((example.size for example in self.examples), default=0)

    @property
    def cut(self) -> int:
        return sum(example.cut for example in self.examples)

    def only(self, rows: Sequence[int]) -> Dataset:
        """Some of the rows, in the order given."""
        return Dataset([self.examples[row] for row in rows], [self.lines[row] for row in rows])

    def raise_faults(self) -> None:
        if self.faults:
            raise InvalidDataset(self.faults, self.fault_count)


@dataclass(frozen=True)
class Reader:
    """How files of one run are read."""

    task: AnyTask
    tokenizer: Any
    columns: Mapping[str, str]
    max_length: int
    heed: Callable[[], None]
    """Called between chunks; raises where the run was asked to leave."""

    def read(self, path: Path, role: FileRole) -> Dataset:
        """All of it; faults are collected, not raised."""
        fields = self.task.row.model_fields
        wanted = {name: info.is_required() for name, info in fields.items()}
        entries = rows.read(path, self.columns, wanted, self.task.file_field)
        data = Dataset()
        while chunk := list(islice(entries, CHUNK)):
            self.heed()
            self._take(chunk, data, role)
        if not data.examples and not data.faults:
            _add(data, role, Bad(None, "empty_file", "The file has no rows."))
        return data

    def refuse_unknown(self, data: Dataset, state: State, role: FileRole) -> None:
        """Rows that a model of ``state`` could never get right are faults."""
        for example, line in zip(data.examples, data.lines, strict=True):
            flaw = self.task.fits(example, state)
            if flaw:
                _add(data, role, Bad(line, flaw.code, flaw.message, flaw.field))

    def _take(self, chunk: list[rows.Entry], data: Dataset, role: FileRole) -> None:
        checked: list[tuple[Record, Any]] = []
        for entry in chunk:
            if isinstance(entry, Bad):
                _add(data, role, entry)
                continue
            for outcome in self._checked(entry):
                if isinstance(outcome, Bad):
                    _add(data, role, outcome)
                else:
                    checked.append(outcome)
        if not checked:
            return
        encoded = self.task.encode([row for _, row in checked], self.tokenizer, self.max_length)
        for (record, _), one in zip(checked, encoded, strict=True):
            if isinstance(one, Flaw):
                _add(data, role, _bad(record, one))
            else:
                data.examples.append(one)
                data.lines.append(record.line)

    def _checked(self, record: Record) -> Iterator[Bad | tuple[Record, Any]]:
        try:
            row = self.task.row.model_validate(record.value)
        except ValidationError as error:
            for one in error.errors(include_url=False, include_input=False):
                code, message = _SCHEMA_FLAWS.get(one["type"], (_code(one["type"]), one["msg"]))
                yield _bad(record, Flaw(code, field_path(one["loc"]), message))
            return
        flaws = list(self.task.check(row))
        for flaw in flaws:
            yield _bad(record, flaw)
        if not flaws:
            yield record, row


def _bad(record: Record, flaw: Flaw) -> Bad:
    file = f"'{record.file}': " if record.file else ""
    return Bad(record.line, flaw.code, file + flaw.message, flaw.field)


def _code(kind: str) -> str:
    return kind if kind == "wrong_type" else "wrong_value"


def field_path(loc: tuple[int | str, ...]) -> str:
    """``("messages", 2, "content")`` -> ``messages[2].content``."""
    path = ""
    for part in loc:
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else part
    return path


def _add(data: Dataset, role: FileRole, bad: Bad) -> None:
    data.fault_count += 1
    if len(data.faults) < FAULTS_KEPT:
        data.faults.append(Fault(code=bad.code, line=bad.line, field=bad.field, message=bad.message, file=role))

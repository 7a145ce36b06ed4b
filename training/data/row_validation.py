"""A row against its task's schema and rules."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from pydantic import ValidationError

from training.readers.rows import Bad, Entry, Record
from training.tasks.base import AnyTask, Flaw

CHUNK = 512
"""Rows at a time."""
CHUNK_CHARACTERS = 4 << 20

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

Checked = tuple[Record, Any]
"""A row as it stands in the file and as its schema reads it."""


def fields_of(task: AnyTask) -> dict[str, bool]:
    """Of a row, and whether each must be there."""
    return {name: info.is_required() for name, info in task.row.model_fields.items()}


def checked(task: AnyTask, entries: Iterable[Entry]) -> Iterator[Bad | Checked]:
    """In order; a row may have several flaws."""
    for entry in entries:
        if isinstance(entry, Bad):
            yield entry
        else:
            yield from _row(task, entry)


def _row(task: AnyTask, record: Record) -> Iterator[Bad | Checked]:
    try:
        row = task.row.model_validate(record.value)
    except ValidationError as error:
        for one in error.errors(include_url=False, include_input=False):
            code, message = _SCHEMA_FLAWS.get(one["type"], (_code(one["type"]), one["msg"]))
            yield bad(record, Flaw(code, field_path(one["loc"]), message))
        return
    flaws = list(task.check(row))
    for flaw in flaws:
        yield bad(record, flaw)
    if not flaws:
        yield record, row


def chunks(entries: Iterator[Entry]) -> Iterator[list[Entry]]:
    """Each of ``CHUNK`` rows, or of fewer long ones."""
    chunk: list[Entry] = []
    size = 0
    for entry in entries:
        chunk.append(entry)
        size += entry.size if isinstance(entry, Record) else 0
        if len(chunk) == CHUNK or size > CHUNK_CHARACTERS:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def bad(record: Record, flaw: Flaw) -> Bad:
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

"""A row against its task's schema and rules."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from pydantic import ValidationError

from training.readers.rows import RawRow, RowError, RowResult
from training.tasks.base import AnyTask, RowIssue

CHUNK_ROWS = 512
"""Rows at a time."""
MAX_CHUNK_CHARACTERS = 4 << 20

# pydantic's names of what can be wrong -> ours and what to change. Others are told in pydantic's words.
_SCHEMA_ISSUES = {
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

ValidRow = tuple[RawRow, Any]
"""A row as it stands in the file and as its schema reads it."""


def get_row_fields(task: AnyTask) -> dict[str, bool]:
    """Of a row, and whether each must be there."""
    return {name: info.is_required() for name, info in task.row_schema.model_fields.items()}


def validate_rows(task: AnyTask, entries: Iterable[RowResult]) -> Iterator[RowError | ValidRow]:
    """In order; a row may have several flaws."""
    for entry in entries:
        if isinstance(entry, RowError):
            yield entry
        else:
            yield from _validate_row(task, entry)


def _validate_row(task: AnyTask, raw_row: RawRow) -> Iterator[RowError | ValidRow]:
    try:
        row = task.row_schema.model_validate(raw_row.value)
    except ValidationError as error:
        for one in error.errors(include_url=False, include_input=False):
            code, message = _SCHEMA_ISSUES.get(one["type"], (_to_issue_code(one["type"]), one["msg"]))
            yield to_row_error(raw_row, RowIssue(code, format_field_path(one["loc"]), message))
        return
    flaws = list(task.check_row(row))
    for flaw in flaws:
        yield to_row_error(raw_row, flaw)
    if not flaws:
        yield raw_row, row


def iter_chunks(entries: Iterator[RowResult]) -> Iterator[list[RowResult]]:
    """Each of ``CHUNK`` rows, or of fewer long ones."""
    chunk: list[RowResult] = []
    size = 0
    for entry in entries:
        chunk.append(entry)
        size += entry.size if isinstance(entry, RawRow) else 0
        if len(chunk) == CHUNK_ROWS or size > MAX_CHUNK_CHARACTERS:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def to_row_error(raw_row: RawRow, issue: RowIssue) -> RowError:
    file = f"'{raw_row.file}': " if raw_row.file else ""
    return RowError(raw_row.line, issue.code, file + issue.message, issue.field)


def _to_issue_code(kind: str) -> str:
    return kind if kind == "wrong_type" else "wrong_value"


def format_field_path(loc: tuple[int | str, ...]) -> str:
    """``("messages", 2, "content")`` -> ``messages[2].content``."""
    path = ""
    for part in loc:
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else part
    return path

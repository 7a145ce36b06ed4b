"""Validation of rows against the schema and the rules of their task."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from pydantic import ValidationError

from training.readers.raw_rows import RawRow, RowError, RowResult
from training.tasks.base import AnyTask, RowIssue

CHUNK_ROWS = 512
"""Rows encoded together."""
MAX_CHUNK_CHARACTERS = 4 << 20
"""A chunk with more text ends early."""

# pydantic's error type -> our code and message. Other types keep pydantic's message.
_SCHEMA_ISSUES = {
    "missing": ("missing_field", "The field is missing; add it."),
    "extra_forbidden": ("unknown_field", "This field is unknown; remove it."),
    "string_type": ("wrong_type", "Must be a string."),
    "list_type": ("wrong_type", "Must be a list."),
    "model_type": ("wrong_type", "Must be an object."),
    "dict_type": ("wrong_type", "Must be an object."),
    "float_type": ("wrong_type", "Must be a number."),
    "too_short": ("empty_content", "The list is empty; add at least one item."),
    "string_too_short": ("empty_content", "Must not be empty."),
}

ValidRow = tuple[RawRow, Any]
"""Row as written in the file and as parsed by its schema."""


def get_row_fields(task: AnyTask) -> dict[str, bool]:
    """Return the fields of a row; the value is True for required fields."""
    return {name: info.is_required() for name, info in task.row_schema.model_fields.items()}


def validate_rows(task: AnyTask, entries: Iterable[RowResult]) -> Iterator[RowError | ValidRow]:
    """Yield valid rows and errors in order. A row may have several errors."""
    for entry in entries:
        if isinstance(entry, RowError):
            yield entry
        else:
            yield from _validate_row(task, entry)


def _validate_row(task: AnyTask, raw_row: RawRow) -> Iterator[RowError | ValidRow]:
    try:
        row = task.row_schema.model_validate(raw_row.value)
    except ValidationError as error:
        for detail in error.errors(include_url=False, include_input=False):
            code, message = _SCHEMA_ISSUES.get(detail["type"], (_to_issue_code(detail["type"]), detail["msg"]))
            yield to_row_error(raw_row, RowIssue(code, format_field_path(detail["loc"]), message))
        return
    issues = list(task.check_row(row))
    for issue in issues:
        yield to_row_error(raw_row, issue)
    if not issues:
        yield raw_row, row


def iter_chunks(entries: Iterator[RowResult]) -> Iterator[list[RowResult]]:
    """Yield chunks of ``CHUNK_ROWS`` rows, or of fewer if they are long."""
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


def count_characters(entries: Iterable[RowResult]) -> int:
    """Return the approximate characters of rows in their file."""
    return sum(entry.size for entry in entries if isinstance(entry, RawRow))


def to_row_error(raw_row: RawRow, issue: RowIssue) -> RowError:
    file = f"'{raw_row.file}': " if raw_row.file else ""
    return RowError(raw_row.line, issue.code, file + issue.message, issue.field)


def _to_issue_code(kind: str) -> str:
    return kind if kind == "wrong_type" else "wrong_value"


def format_field_path(loc: tuple[int | str, ...]) -> str:
    """Format a pydantic location: ``("messages", 2, "content")`` -> ``messages[2].content``."""
    path = ""
    for key in loc:
        path += f"[{key}]" if isinstance(key, int) else f".{key}" if path else key
    return path

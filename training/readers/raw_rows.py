"""Raw rows and row errors: the output of all readers. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class RawRow:
    """Row as written in the file, not yet validated."""

    line: int | None
    """None if the row is a file in a labeled folder."""
    value: dict[str, Any]
    file: str = ""
    """File in the zip that the row names."""
    size: int = 0
    """Approximate characters of its text; 0 if it is a file."""


@dataclass(frozen=True, slots=True)
class RowError:
    """Error on a line of the file."""

    line: int | None
    code: str
    message: str
    field: str | None = None


RowResult = RawRow | RowError

"""Output of a command: text for people, or one JSON object per line with ``--json``."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from luthier._upload_source import ProgressCallback


class SupportsToDict(Protocol):
    """Any response object of the server."""

    def to_dict(self) -> dict[str, Any]: ...


@dataclass(frozen=True)
class Output:
    """Output as text or JSON."""

    as_json: bool

    def print_item(self, item: SupportsToDict | dict[str, Any], text: str) -> None:
        """Print one result: the complete item as JSON, or ``text`` for people."""
        print(_to_json(item) if self.as_json else text, flush=True)

    def print_table(self, items: Iterable[SupportsToDict], columns: Sequence[str]) -> None:
        """Print one item per line: complete as JSON, or a table of ``columns`` for people."""
        if self.as_json:
            for item in items:
                print(_to_json(item), flush=True)
            return
        rows = [[_format_cell(item.to_dict().get(column)) for column in columns] for item in items]
        for line in _align_columns([[column.upper() for column in columns], *rows]):
            print(line)

    def create_progress_callback(self, label: str) -> ProgressCallback | None:
        """Return a callback that shows upload progress, or None if stderr is no terminal."""
        if not sys.stderr.isatty():
            return None

        def report(sent: int, total: int) -> None:
            end = "\n" if sent >= total else ""
            share = sent / total if total else 1.0
            print(f"\r\x1b[K{label}  {share:.0%} of {total:,} bytes", end=end, file=sys.stderr, flush=True)

        return report


def _to_json(item: SupportsToDict | dict[str, Any]) -> str:
    return json.dumps(item if isinstance(item, dict) else item.to_dict(), ensure_ascii=False)


def _format_cell(value: Any) -> str:
    if isinstance(value, list):
        return ",".join(map(str, value))
    return "-" if value is None else str(value)


def _align_columns(rows: list[list[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]

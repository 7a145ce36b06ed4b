"""Helpers for writing Markdown."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Sequence

PROSE_COLUMNS = 100


def to_markdown(text: str) -> str:
    """Convert a reStructuredText docstring: roles and double backticks become code spans."""
    return re.sub(r":\w+:`([^`]*)`", r"`\1`", text).replace("``", "`")


def to_cell(text: str) -> str:
    """Fit text into one cell of a table."""
    return re.sub(r"\s+", " ", to_markdown(text)).strip().replace("|", "\\|")


def render_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Render a table. The cells are Markdown already."""
    lines = [f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]
    return "\n".join([*lines, *(f"| {' | '.join(cells)} |" for cells in rows)]) + "\n"


def wrap(text: str) -> str:
    """Wrap one paragraph."""
    return textwrap.fill(text, PROSE_COLUMNS, break_long_words=False, break_on_hyphens=False)

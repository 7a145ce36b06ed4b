"""Markdown of the generated pages."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence

PROSE_COLUMNS = 100


def render_page(title: str, *blocks: str) -> str:
    return "\n\n".join([f"# {title}", "Written by `make docs` from the code.", *blocks]) + "\n"


def wrap(text: str) -> str:
    return textwrap.fill(text, PROSE_COLUMNS, break_long_words=False, break_on_hyphens=False)


def render_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]
    return "\n".join([*lines, *(f"| {' | '.join(cells)} |" for cells in rows)])


def format_names(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in sorted(names))


def to_markdown(text: str) -> str:
    return text.replace("``", "`")

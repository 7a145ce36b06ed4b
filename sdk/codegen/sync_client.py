"""``luthier/_sync`` from ``luthier/_async``: the same code without ``async`` and ``await``."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from codegen.paths import PACKAGE

ASYNC_PACKAGE = PACKAGE / "_async"
SYNC_PACKAGE = PACKAGE / "_sync"

REPLACEMENTS = {
    "_async": "_sync",
    "async_sleep": "sleep",
    "run_in_thread": "run_inline",
    "gather_limited": "map_in_threads",
    "aread": "read",
    "aclose": "close",
    "aiter_lines": "iter_lines",
    "aiter_bytes": "iter_bytes",
    "__aenter__": "__enter__",
    "__aexit__": "__exit__",
    "set_async_httpx_client": "set_httpx_client",
}
"""Beside these, every ``AsyncThing`` becomes ``Thing``."""

_REPLACED_WORDS = re.compile(
    r"\bAsync(?=[A-Z])|\basync (?=def|with|for)|\bawait |" + "|".join(rf"\b{name}\b" for name in REPLACEMENTS)
)


def render_sync_modules() -> dict[Path, str]:
    """Path in the twin package -> text."""
    return dict(_render_module(path) for path in sorted(ASYNC_PACKAGE.glob("*.py")))


def convert_to_sync(text: str) -> str:
    return _REPLACED_WORDS.sub(lambda found: REPLACEMENTS.get(found[0], ""), text)


def _render_module(path: Path) -> tuple[Path, str]:
    twin = SYNC_PACKAGE / path.name
    text = f"# Made by `make sdk` from _async/{path.name}; change that one.\n" + convert_to_sync(path.read_text())
    for words in (["check", "--fix-only", "--select=I"], ["format"]):
        command = [sys.executable, "-m", "ruff", *words, "--quiet", f"--stdin-filename={twin}", "-"]
        text = subprocess.run(command, input=text, capture_output=True, text=True, check=True).stdout
    return twin, text

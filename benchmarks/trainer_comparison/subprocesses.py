"""Where contestants run: each a process of its own, one after the other, on the same number of threads."""

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
"""Characters of a failed process's log."""


class ProcessResult(NamedTuple):
    """A process that has ended well."""

    lines: list[tuple[float, str]]
    """Of its stdout, each with the time at which it came, seconds since 1970."""
    peak_bytes: int
    """Resident."""

    @property
    def json_output(self) -> Any:
        """The JSON of its last line."""
        return json.loads(self.lines[-1][1])


def run(module: str, *arguments: str | Path, threads: int, log: Path) -> ProcessResult:
    """``python -m MODULE ARGUMENTS``. Raises ``SystemExit`` with the end of its log where it fails.

    The kernel counts into a process's peak what its parent held when it began, so the parent must be small.
    """
    command = [sys.executable, "-m", module, *map(str, arguments)]
    # All on the CPU, and none asks the hub for anything.
    own = {"OMP_NUM_THREADS": str(threads), "CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1"}
    with (
        log.open("a") as errors,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, env=os.environ | own) as process,
    ):
        assert process.stdout
        lines = [(time.time(), line) for line in process.stdout]
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        said = "".join(line for _, line in lines)[-MAX_LOG_CHARS:]
        raise SystemExit(f"{module} ended with {process.returncode}.\n{said}\n{log.read_text()[-MAX_LOG_CHARS:]}")
    return ProcessResult(lines, usage.ru_maxrss * 1024)


def run_trainer(module: str, config: TrainerConfig) -> Outcome:
    """A contestant that reads its terms from a file and tells its outcome on its last line."""
    config.folder.mkdir(parents=True)
    told = config.folder / "terms.json"
    told.write_text(config.model_dump_json())
    ended = run(module, told, threads=config.threads, log=config.folder / "log")
    return Outcome.model_validate({**ended.json_output, "peak_bytes": ended.peak_bytes})

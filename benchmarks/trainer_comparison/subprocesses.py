"""Subprocesses of the trainers, which run one after the other with the same number of threads."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Timer
from typing import Any, NamedTuple

from benchmarks.trainer_comparison.config import RETAINED_HEAP, Outcome, TrainerConfig

MAX_LOG_CHARS = 4000
"""Characters of a failed process's log in the error message."""


class ProcessFailed(SystemExit):
    """A process ended with an error or exceeded its time limit."""


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


def run(
    module: str,
    *arguments: str | Path,
    threads: int,
    log: Path,
    environment: Mapping[str, str] = RETAINED_HEAP,
    limit_seconds: float | None = None,
) -> ProcessResult:
    """Run ``python -m MODULE ARGUMENTS``. Raises ``ProcessFailed`` with the end of the log on
    failure.

    The kernel includes the parent's memory at the fork in a process's peak RSS, so the parent must
    be small.
    """
    command = [sys.executable, "-m", module, *map(str, arguments)]
    began = time.monotonic()
    with (
        log.open("a") as errors,
        subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=_build_environment(threads, environment),
            process_group=0,
        ) as process,
        _kill_group_after(process, limit_seconds),
    ):
        assert process.stdout
        lines = [(time.time(), line) for line in process.stdout]
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        if limit_seconds is not None and time.monotonic() - began > limit_seconds:
            raise ProcessFailed(f"{module} did not end within {limit_seconds:.0f} s.")
        output = "".join(line for _, line in lines)[-MAX_LOG_CHARS:]
        raise ProcessFailed(f"{module} ended with {process.returncode}.\n{output}\n{log.read_text()[-MAX_LOG_CHARS:]}")
    return ProcessResult(lines, usage.ru_maxrss * 1024)


def _build_environment(threads: int, environment: Mapping[str, str]) -> dict[str, str]:
    """Build an environment with this allocator only, on the CPU, without requests to the Hub."""
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith("MALLOC_") and name != "LD_PRELOAD"
    }
    shared = {"OMP_NUM_THREADS": str(threads), "CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1"}
    return {**inherited, **shared, **environment}


@contextmanager
def _kill_group_after(process: subprocess.Popen[str], seconds: float | None) -> Iterator[None]:
    """Kill the process and its children after ``seconds``, and if the block ends early."""

    def kill() -> None:
        # The group is gone if the process and its children have ended.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)

    timer = Timer(seconds, kill) if seconds is not None else None
    if timer:
        timer.start()
    try:
        yield
    finally:
        if timer:
            timer.cancel()
        # Compiling leaves worker processes behind.
        kill()


def run_trainer(module: str, config: TrainerConfig) -> Outcome:
    """Run a trainer that reads its configuration from a file and prints its outcome as the last
    line.
    """
    config.folder.mkdir(parents=True)
    config_path = config.folder / "config.json"
    config_path.write_text(config.model_dump_json())
    result = run(
        module,
        config_path,
        threads=config.threads,
        log=config.folder / "log",
        environment=config.settings.environment,
        limit_seconds=config.limit_seconds,
    )
    return Outcome.model_validate({**result.json_output, "peak_bytes": result.peak_bytes})

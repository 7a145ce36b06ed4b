"""Result of a benchmark: one line of JSON, and a file in ``benchmarks/results/``."""

from __future__ import annotations

import datetime
import json
import os
import platform
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


def write_result(name: str, command: str, metrics: dict[str, Any]) -> None:
    """Write the metrics with command, date and machine to a file, and print the metrics as the last
    line.
    """
    RESULTS.mkdir(exist_ok=True)
    result = {
        "command": command,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": f"{os.cpu_count()} CPUs, {get_cpu_name()}, Python {platform.python_version()}",
        "figures": metrics,
    }
    (RESULTS / f"{name}.json").write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(metrics))


def get_cpu_name() -> str:
    return next(iter(_read_cpu_field("model name")), platform.machine())


def get_cpu_flags() -> list[str]:
    """Return the instruction sets of the CPU, as the kernel names them."""
    return next(iter(_read_cpu_field("flags")), "").split()


def _read_cpu_field(name: str) -> list[str]:
    """Return the values of a field of ``/proc/cpuinfo``, one per core."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return [line.partition(": ")[2] for line in lines if line.startswith(name)]

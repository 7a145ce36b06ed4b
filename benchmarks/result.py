"""How a benchmark ends: figures as one line of JSON, and in ``benchmarks/results/`` with the command that made them."""

from __future__ import annotations

import datetime
import json
import os
import platform
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


def write_result(name: str, command: str, metrics: dict[str, Any]) -> None:
    RESULTS.mkdir(exist_ok=True)
    made = {
        "command": command,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": f"{os.cpu_count()} CPUs, {_get_cpu_name()}, Python {platform.python_version()}",
        "figures": metrics,
    }
    (RESULTS / f"{name}.json").write_text(json.dumps(made, indent=2) + "\n")
    print(json.dumps(metrics))


def _get_cpu_name() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine())

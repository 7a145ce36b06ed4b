"""Virtual environments of third-party programs, and results of the suites that run in them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PIP_ARGUMENTS = ("-m", "pip", "--quiet", "--disable-pip-version-check")

CLIENT_REQUIREMENTS: dict[str, tuple[str, ...]] = {
    # The oldest version that works: until 1.2 the client does not read `code` and `param` from an
    # error's body. It passes an argument to httpx that 0.28 no longer accepts.
    "openai-1.3": ("openai==1.3.0", "httpx<0.28"),
    "openai-1.109": ("openai==1.109.1",),
    "openai-2.54": ("openai==2.54.0",),
    "openai-newest": ("openai",),
}


@dataclass(frozen=True)
class Result:
    """Result of the checks of one client or tool."""

    client: str
    on: str
    passed: int
    failed: int
    absent: int
    checks: list[dict[str, Any]]

    def summarize(self) -> dict[str, Any]:
        summary = {"client": self.client, "on": self.on, "passed": self.passed, "failed": self.failed}
        absent = {check["check"]: check["detail"] for check in self.checks if check["outcome"] == "absent"}
        failures = {check["check"]: check["detail"] for check in self.checks if check["outcome"] == "failed"}
        return {**summary, "absent": absent, **({"failures": failures} if failures else {})}


def create_environment(folder: Path, name: str, install_steps: Sequence[Sequence[str]]) -> Path:
    """Return the Python of a virtual environment with these packages. Creates it if it is
    missing."""
    python = folder / name / "bin" / "python"
    if not python.exists():
        print(f"installing {name} …", flush=True)
        subprocess.run([sys.executable, "-m", "venv", folder / name], check=True)
        for packages in install_steps:
            subprocess.run([python, *PIP_ARGUMENTS, "install", *packages], check=True)
    return python


def run_suite(command: Sequence[str | Path], stdin_text: str = "", **options: Any) -> Result:
    """Run a suite that prints a line of JSON for each check and a summary. Raises ``RuntimeError``
    if it prints no summary."""
    completed = subprocess.run(command, input=stdin_text, capture_output=True, text=True, check=False, **options)
    lines = [json.loads(line) for line in completed.stdout.splitlines() if line.startswith('{"c')]
    if not lines or "client" not in lines[-1]:
        raise RuntimeError(f"{command} printed no summary:\n{completed.stdout[-2000:]}\n{completed.stderr[-4000:]}")
    return Result(**lines[-1], checks=lines[:-1])

"""Environments of other people's programs, made once, and what those said that ran in them."""

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
    # The oldest that works; until 1.2 the client itself reads no `code` and `param` from an error's body.
    # It passes an argument to httpx that 0.28 no longer takes.
    "openai-1.3": ("openai==1.3.0", "httpx<0.28"),
    "openai-1.109": ("openai==1.109.1",),
    "openai-2.54": ("openai==2.54.0",),
    "openai-newest": ("openai",),
}


@dataclass(frozen=True)
class Result:
    """What one client or tool showed."""

    client: str
    on: str
    passed: int
    failed: int
    absent: int
    checks: list[dict[str, Any]]

    def summarize(self) -> dict[str, Any]:
        told = {"client": self.client, "on": self.on, "passed": self.passed, "failed": self.failed}
        lacking = {check["check"]: check["detail"] for check in self.checks if check["outcome"] == "absent"}
        failures = {check["check"]: check["detail"] for check in self.checks if check["outcome"] == "failed"}
        return {**told, "absent": lacking, **({"failures": failures} if failures else {})}


def create_environment(folder: Path, name: str, install_steps: Sequence[Sequence[str]]) -> Path:
    """The Python of a virtual environment with these packages; made unless it is there."""
    python = folder / name / "bin" / "python"
    if not python.exists():
        print(f"installing {name} …", flush=True)
        subprocess.run([sys.executable, "-m", "venv", folder / name], check=True)
        for packages in install_steps:
            subprocess.run([python, *PIP_ARGUMENTS, "install", *packages], check=True)
    return python


def run_suite(command: Sequence[str | Path], stdin_text: str = "", **options: Any) -> Result:
    """Run a suite that prints a line of JSON for each check and a summary."""
    ran = subprocess.run(command, input=stdin_text, capture_output=True, text=True, check=False, **options)
    lines = [json.loads(line) for line in ran.stdout.splitlines() if line.startswith('{"c')]
    if not lines or "client" not in lines[-1]:
        raise RuntimeError(f"{command} told nothing:\n{ran.stdout[-2000:]}\n{ran.stderr[-4000:]}")
    return Result(**lines[-1], checks=lines[:-1])

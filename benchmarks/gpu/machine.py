"""Environment of the processes that run on a GPU machine, and the check that nothing is missing.

This module imports the standard library only, so that it can say what is missing.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.gpu import wheels

LIBRARIES = (
    *("torch", "transformers", "peft", "safetensors", "tokenizers", "numpy", "jinja2", "pydantic"),
    *("training.run", "inference.generation.request"),
)
"""Modules that must import. Of the packages, all but pydantic come with transformers and PEFT."""
TEST_MODULES = (*LIBRARIES, "pytest", "PIL", "sacrebleu")

_VARIABLES = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "OMP_WAIT_POLICY": "PASSIVE",
    # Without it, cuBLAS cannot be deterministic.
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
    "PYTORCH_ALLOC_CONF": "expandable_segments:True",
    "PYTHONDONTWRITEBYTECODE": "1",
    # Plugins installed there may change how tests run.
    "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
}


@dataclass(frozen=True)
class Machine:
    """GPU machine that has all that is needed, or a CPU that stands in for one."""

    environment: Mapping[str, str]
    description: Mapping[str, Any]
    """Output of ``probe``, without missing modules."""
    deadline: float
    """Of ``time.monotonic()``."""

    @property
    def has_cuda(self) -> bool:
        return "cuda" in self.description

    @property
    def seconds_left(self) -> float:
        return max(0.0, self.deadline - time.monotonic())

    def run_json(self, module: str, *arguments: str) -> dict[str, Any]:
        """Run a module of this repository and return the JSON in its last line.

        Raises ``subprocess.SubprocessError`` if it fails or exceeds the deadline.
        """
        return _run_json(self.environment, self.seconds_left, module, *arguments)


@contextlib.contextmanager
def open_machine(modules: Sequence[str], device: str, limit_seconds: float) -> Iterator[Machine]:
    """Check the machine, unpack the wheels if it lacks modules, and print its versions.

    ``device`` is ``cuda`` or ``cpu``. Raises ``SystemExit`` if modules or the device are missing.
    """
    deadline = time.monotonic() + limit_seconds
    environment = {**os.environ, **_VARIABLES}
    if device == "cpu":
        environment["CUDA_VISIBLE_DEVICES"] = ""
    with tempfile.TemporaryDirectory(prefix="wheels-") as unpacked:
        description = _run_json(environment, limit_seconds, "benchmarks.gpu.probe", *modules)
        if description["missing"]:
            wheels.unpack(Path(unpacked))
            environment["PYTHONPATH"] = os.pathsep.join(filter(None, [unpacked, os.environ.get("PYTHONPATH")]))
            description = _run_json(environment, limit_seconds, "benchmarks.gpu.probe", *modules)
        _check(description, device)
        print(json.dumps(description), flush=True)
        yield Machine(environment, description, deadline)


def _check(description: dict[str, Any], device: str) -> None:
    missing = description.pop("missing")
    if missing:
        lines = [f"{sys.executable} cannot import:", *(f"  {name}: {reason}" for name, reason in missing.items())]
        lines += [
            "torch, transformers and PEFT must be installed. The others: run `make gpu-wheels` on a machine with",
            f"a network and Python {'.'.join(map(str, sys.version_info[:2]))}, and copy `.gpu-wheels/` to this one.",
        ]
        raise SystemExit("\n".join(lines))
    if device == "cuda" and "cuda" not in description:
        raise SystemExit(f"torch {description['versions']['torch']} finds no CUDA device on this machine.")


def _run_json(environment: Mapping[str, str], seconds: float, module: str, *arguments: str) -> dict[str, Any]:
    finished = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        env=environment,
        cwd=wheels.REPOSITORY_ROOT,
        stdout=subprocess.PIPE,
        text=True,
        timeout=seconds,
        check=True,
    )
    result: dict[str, Any] = json.loads(finished.stdout.splitlines()[-1])
    return result

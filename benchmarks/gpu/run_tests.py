"""The tests that prove numbers, on a GPU: ``python -m benchmarks.gpu.run_tests``.

The same files run on the CPU in ``make test``. The last line is JSON; it is also written to
``benchmarks/results/gpu-tests.json``. The exit status is 1 if a test failed or did not finish.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from benchmarks.gpu import wheels
from benchmarks.gpu.machine import TEST_MODULES, Machine, open_machine
from benchmarks.result import write_result

LIMIT_SECONDS = 510.0
"""Time for everything. Files that have not finished by then count as failed."""

ALL, FAST = "slow or not slow", "not slow"
TEST_FILES: Mapping[str, str] = {
    "tests/training/test_matrix.py": ALL,
    "tests/training/trainer/test_resume.py": FAST,
    "tests/training/test_updates.py": FAST,
    "tests/training/trainer/test_optimizers.py": FAST,
    "tests/training/trainer/test_numbers.py": FAST,
    "tests/training/test_serving.py": FAST,
    "tests/inference/generation/test_llm_engine.py": FAST,
    "tests/training/kernels/test_packed.py": FAST,
    "tests/training/kernels/test_kernels.py": FAST,
    "tests/training/trainer/test_feature_cache.py": FAST,
    "tests/training/trainer/test_starting_point.py": FAST,
    "tests/training/trainer/test_out_of_memory.py": FAST,
    "tests/training/trainer/test_stopping.py": FAST,
    "tests/training/data/test_validation.py": FAST,
}
"""File -> markers of the tests to run, longest file first."""

_OUTCOME = re.compile(r"^(?P<test>tests/\S+::.*?) (?P<outcome>PASSED|FAILED|ERROR|SKIPPED|XFAIL)\b", re.M)


ROOTS = ("tests/training", "tests/inference/generation")
"""Directories of these files. The ``conftest.py`` files above them import packages that start
services."""


@dataclass(frozen=True)
class FileOutcome:
    """Outcome of the tests of one file."""

    outcomes: Mapping[str, str]
    """Test -> pytest's word."""
    is_complete: bool
    """False if pytest was killed or could not start."""
    output: str

    @property
    def failed(self) -> list[str]:
        return [test for test, outcome in self.outcomes.items() if outcome in ("FAILED", "ERROR")]

    @property
    def is_good(self) -> bool:
        return self.is_complete and not self.failed


def find_root(path: str) -> str:
    return next(root for root in ROOTS if path.startswith(root))


def run_file(machine: Machine, path: str, markers: str) -> FileOutcome:
    """Run one file in its own process, with pytest alone."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-v",
        "--color=no",
        "--tb=short",
        "-p",
        "no:cacheprovider",
        "-m",
        markers,
    ]
    # pyproject.toml's options need plugins and turn warnings of these versions into errors.
    command += ["-o", "addopts=", "-o", "filterwarnings=", f"--confcutdir={find_root(path)}", path]
    with tempfile.TemporaryFile("w+") as output:
        try:
            status = subprocess.run(
                command,
                env=machine.environment,
                cwd=wheels.REPOSITORY_ROOT,
                stdout=output,
                stderr=subprocess.STDOUT,
                timeout=machine.seconds_left,
                check=False,
            ).returncode
        except subprocess.TimeoutExpired:
            status = -1
        output.seek(0)
        text = output.read()
    outcomes = {found["test"]: found["outcome"] for found in _OUTCOME.finditer(text)}
    return FileOutcome(outcomes, status in (0, 1) and bool(outcomes), text)


def summarize(machine: Machine, files: Mapping[str, FileOutcome]) -> dict[str, Any]:
    by_file = {
        path: {**Counter(outcome.lower() for outcome in file.outcomes.values()), "complete": file.is_complete}
        for path, file in files.items()
    }
    counts = Counter(outcome.lower() for file in files.values() for outcome in file.outcomes.values())
    return {
        **machine.description,
        "passed": counts["passed"],
        "failed": counts["failed"] + counts["error"],
        "skipped": counts["skipped"],
        "seconds": round(LIMIT_SECONDS - machine.seconds_left, 1),
        "files": by_file,
        "failures": [test for file in files.values() for test in file.failed],
    }


def run(machine: Machine, paths: Sequence[str], workers: int) -> dict[str, FileOutcome]:
    """Run files side by side, each in its own process."""
    with ThreadPoolExecutor(workers) as pool:
        futures = {path: pool.submit(run_file, machine, path, TEST_FILES[path]) for path in paths}
        files = {}
        for path, future in futures.items():
            files[path] = file = future.result()
            print(f"{'ok  ' if file.is_good else 'FAIL'} {path} {dict(Counter(file.outcomes.values()))}", flush=True)
            if not file.is_good:
                print(file.output[-20_000:], flush=True)
    return files


def parse_arguments(words: Sequence[str]) -> argparse.Namespace:
    """Parse the command line. Without files, all of them run."""
    parser = argparse.ArgumentParser(description="Run the tests that prove numbers on a GPU.")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--workers", type=int, default=max(1, min(6, (os.cpu_count() or 1) // 2)))
    parser.add_argument("--file", action="append", choices=list(TEST_FILES), dest="files", help="default: all")
    arguments = parser.parse_args(words)
    arguments.files = arguments.files or list(TEST_FILES)
    return arguments


def main() -> None:
    arguments = parse_arguments(sys.argv[1:])
    with open_machine(TEST_MODULES, arguments.device, LIMIT_SECONDS) as machine:
        files = run(machine, arguments.files, arguments.workers)
        summary = summarize(machine, files)
    if machine.has_cuda:
        write_result("gpu-tests", "make test-gpu", summary)
    else:
        print(json.dumps(summary))
    sys.exit(0 if all(file.is_good for file in files.values()) else 1)


if __name__ == "__main__":
    main()

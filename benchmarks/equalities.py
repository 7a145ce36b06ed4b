"""``make test-long``: run the long equality tests and record the commit that they ran on."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from benchmarks.result import write_result

COMMAND = "make test-long"
TESTS = [
    "tests/training/trainer/test_long.py",
    "tests/training/trainer/test_parity.py",
    # Every update in bfloat16.
    "tests/training/test_matrix.py",
]


def main() -> int:
    """Run the tests, write the result, and return their exit code."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.xml")
        command = [sys.executable, "-m", "pytest", "-v", "-m", "slow or not slow", f"--junitxml={report}", *TESTS]
        code = subprocess.run(command).returncode
        # The file is trusted: pytest has just written it on this machine.
        suite = next(ElementTree.parse(report).iter("testsuite"))
    counts = {name: int(suite.get(name, 0)) for name in ("tests", "failures", "errors", "skipped")}
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    changed = subprocess.run(["git", "status", "--porcelain", "--", "training", "tests/training"], capture_output=True)
    metrics = {**counts, "seconds": float(suite.get("time", 0)), "commit": commit, "clean": not changed.stdout}
    write_result("equalities", COMMAND, metrics)
    return code


if __name__ == "__main__":
    sys.exit(main())

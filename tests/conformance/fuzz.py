"""``make fuzz``: schemathesis with every check over the OpenAPI document, a real key and real
ids."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.result import write_result
from tests.conformance.client.context import CheckContext
from tests.conformance.sample_objects import create_id_pool
from tests.conformance.server import run_check_server

CONFORMANCE_DIRECTORY = Path(__file__).parent
ROOT = CONFORMANCE_DIRECTORY.parent.parent
MAX_EXAMPLES = 40
"""Generated examples per operation and phase."""


@dataclass(frozen=True)
class FuzzResult:
    requests: int
    operations: int
    statuses: dict[str, int]
    failures: list[str]
    checks: int
    seconds: float
    seed: int
    output: str

    def summarize(self) -> dict[str, Any]:
        return {
            "requests": self.requests,
            "operations": self.operations,
            "server_errors": sum(count for status, count in self.statuses.items() if status.startswith("5")),
            "failures": len(self.failures),
            "statuses": self.statuses,
            "seconds": round(self.seconds, 1),
            "seed": self.seed,
        }


def fuzz(context: CheckContext, options: Sequence[str]) -> FuzzResult:
    """Run schemathesis once against the server. Raises ``RuntimeError`` if it does not run."""
    with tempfile.TemporaryDirectory() as folder:
        counts, report = Path(folder, "counts.json"), Path(folder, "report.json")
        command = [
            *(
                sys.executable,
                "-m",
                "schemathesis.cli",
                f"--config-file={CONFORMANCE_DIRECTORY / 'schemathesis.toml'}",
                "run",
            ),
            f"{context.url.removesuffix('/v1')}/openapi.json",
            f"--header=Authorization: Bearer {context.key}",
            *("--continue-on-failure", "--no-color", "--generation-database=none", "--request-timeout=60"),
            *("--report=json", f"--report-json-path={report}"),
            *options,
        ]
        environment = {
            **os.environ,
            "SCHEMATHESIS_HOOKS": "tests.conformance.schemathesis_hooks",
            "CONFORMANCE_POOL": json.dumps(create_id_pool(context)),
            "CONFORMANCE_COUNTS": str(counts),
            "PYTHONPATH": str(ROOT),
        }
        completed = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment, check=False)
        if not report.exists() or not counts.exists():
            raise RuntimeError(f"schemathesis did not run:\n{completed.stdout[-4000:]}\n{completed.stderr[-4000:]}")
        return _parse_result(json.loads(counts.read_text()), json.loads(report.read_text()), completed.stdout)


def _parse_result(counts: dict[str, Any], report: dict[str, Any], output: str) -> FuzzResult:
    # The readiness route correctly returns 503 in a stack without Redis.
    statuses = {
        status: sum(count for operation, count in operations.items() if not operation.endswith(" /readyz"))
        for status, operations in counts["statuses"].items()
    }
    return FuzzResult(
        requests=counts["requests"],
        operations=report["operations"]["tested"],
        statuses=statuses,
        failures=[json.dumps(failure) for failure in [*report["failures"], *report["errors"]]],
        checks=report["test_cases"]["generated"],
        seconds=report["running_time"],
        seed=report["seed"],
        output=output,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--max-examples", type=int, default=MAX_EXAMPLES)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="luthier-") as home, run_check_server(Path(home)) as (_, context):
        result = fuzz(context, [f"--max-examples={arguments.max_examples}", f"--seed={arguments.seed}"])
    print(result.output)
    write_result("fuzz", "make fuzz", result.summarize())
    sys.exit(1 if result.failures else 0)


if __name__ == "__main__":
    main()

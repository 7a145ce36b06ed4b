"""``python -m tests.conformance.client.run < context.json``: run every check once.

Prints a line of JSON for each check, then a summary."""

from __future__ import annotations

import json
import platform
import sys
import time
import traceback
from types import ModuleType
from typing import Any

import openai

from tests.conformance.client import asynchronous, errors_and_retries, files, inference, jobs
from tests.conformance.client.context import Check, CheckContext, find_missing_feature

MODULES: tuple[ModuleType, ...] = (files, jobs, inference, errors_and_retries, asynchronous)

CHECKS: dict[str, Check] = {
    name.removeprefix("check_"): function
    for module in MODULES
    for name, function in vars(module).items()
    if name.startswith("check_")
}


def run_check(check: Check, context: CheckContext) -> dict[str, Any]:
    """Return ``passed``, ``failed`` with the reason, or ``absent`` with the feature the client
    lacks."""
    missing_feature = find_missing_feature(check, context.get_client())
    if missing_feature:
        return {"outcome": "absent", "detail": missing_feature}
    start = time.monotonic()
    try:
        check(context)
    # Any error is the outcome of the check.
    except Exception as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        detail = f"{type(error).__name__}: {error} ({frame.filename.rpartition('/')[2]}:{frame.lineno}: {frame.line})"
        return {"outcome": "failed", "detail": detail[:600]}
    return {"outcome": "passed", "seconds": round(time.monotonic() - start, 2)}


def main() -> None:
    context = CheckContext.from_json(sys.stdin.read())
    counts = {"passed": 0, "failed": 0, "absent": 0}
    for name, check in CHECKS.items():
        result = run_check(check, context)
        counts[result["outcome"]] += 1
        print(json.dumps({"check": name, **result}), flush=True)
    context.close()
    print(json.dumps({"client": f"openai {openai.__version__}", "on": f"Python {platform.python_version()}", **counts}))
    sys.exit(1 if counts["failed"] else 0)


if __name__ == "__main__":
    main()

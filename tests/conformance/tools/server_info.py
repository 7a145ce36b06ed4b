"""Server of the tool checks, and the runner that reports their outcomes. Standard library only."""

from __future__ import annotations

import json
import os
import platform
import sys
import time
import traceback
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any


@dataclass(frozen=True)
class ServerInfo:
    """A complete stack with a worker and an engine."""

    url: str
    """Ends in ``/v1``."""
    key: str
    rows: str
    """Path of a JSONL file of chats to train on."""
    base: str
    """A chat model to train, listed under a name of OpenAI's that tools recognize."""
    tool_base: str
    """Another chat model, whose template supports tools."""

    def get_json(self, path: str) -> Any:
        request = urllib.request.Request(f"{self.url}{path}", headers={"authorization": f"Bearer {self.key}"})
        with urllib.request.urlopen(request, timeout=30) as response:
            return json.load(response)


Check = Callable[[ServerInfo], None]


def run_checks(distribution: str, checks: dict[str, Check]) -> None:
    """Run the checks against the server in ``CONFORMANCE_SERVER``.

    Prints a line of JSON for each check, then a summary.
    """
    server = ServerInfo(**json.loads(os.environ["CONFORMANCE_SERVER"]))
    counts = {"passed": 0, "failed": 0, "absent": 0}
    for name, check in checks.items():
        start = time.monotonic()
        try:
            check(server)
            line = {"check": name, "outcome": "passed", "seconds": round(time.monotonic() - start, 2)}
        # Any error is the outcome of the check.
        except Exception as error:
            frame = traceback.extract_tb(error.__traceback__)[-1]
            detail = f"{type(error).__name__}: {error} ({frame.filename.rpartition('/')[2]}:{frame.lineno})"
            line = {"check": name, "outcome": "failed", "detail": detail[:600]}
        counts[str(line["outcome"])] += 1
        print(json.dumps(line), flush=True)
    name = f"{distribution} {version(distribution)}"
    print(json.dumps({"client": name, "on": f"Python {platform.python_version()}", **counts}))
    sys.exit(1 if counts["failed"] else 0)


def wait_for_job(server: ServerInfo, job_id: str, seconds: float = 240.0) -> Any:
    """Return the job after it has succeeded. Raises ``AssertionError`` if it failed,
    ``TimeoutError`` if it has not ended after ``seconds``."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        job = server.get_json(f"/fine_tuning/jobs/{job_id}")
        if job["status"] in {"succeeded", "failed", "cancelled"}:
            assert job["status"] == "succeeded", job["error"]
            return job
        time.sleep(0.5)
    raise TimeoutError(f"{job_id} did not end in {seconds} s")

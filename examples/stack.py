"""Context manager that runs a private Luthier stack."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
from openai import OpenAI
from rich.console import Console


@contextmanager
def run_stack(home: Path, console: Console) -> Iterator[OpenAI]:
    """Run ``luthierd up`` in ``home`` on a free port and stop it when the block ends."""
    began = time.monotonic()
    # A `kill` of this script must stop the stack too. Without a handler, Python would skip the
    # `finally` below.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    (home / "logs").mkdir(parents=True, exist_ok=True)
    credentials = home / "credentials"
    command = [sys.executable, "-m", "deploy.luthierd", "up", "--home", str(home), "--port", "0"]
    before = credentials.stat().st_mtime_ns if credentials.exists() else 0
    with (home / "logs" / "up.log").open("w") as log:
        stack = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        with console.status("starting Luthier: Redis, API, worker, inference engine …"):
            client = _wait_until_ready(stack, credentials, before)
        console.print(f"✓ a stack is running at {client.base_url} after {time.monotonic() - began:.1f} s")
        yield client
    finally:
        stack.terminate()
        stack.wait()
        console.print("✓ the stack has stopped")


def _wait_until_ready(stack: subprocess.Popen[bytes], credentials: Path, previous_mtime_ns: int) -> OpenAI:
    while stack.poll() is None:
        if credentials.exists() and credentials.stat().st_mtime_ns != previous_mtime_ns:
            config = json.loads(credentials.read_text())
            root = config["base_url"].removesuffix("/v1")
            try:
                if httpx.get(f"{root}/readyz", timeout=5).status_code == 200:
                    return OpenAI(base_url=config["base_url"], api_key=config["api_key"])
            except httpx.TransportError:
                pass
        time.sleep(0.1)
    raise SystemExit(f"the stack did not start; find the cause in {credentials.parent / 'logs'}")

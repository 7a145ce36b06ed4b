"""A blob store that does not respond delays only calls of the blob store.

Connections to Postgres, Redis and the engine resolve host names in asyncio's default pool. A worker
that cannot connect to its database loses its leases.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from fastapi import Response

from api.routes import health
from jobs.resources import Resources, open_resources
from jobs.runner import staging
from storage.folders import MANIFEST_FILE
from storage.settings import Settings

pytestmark = pytest.mark.anyio

NUM_CALLS = 40
"""More than the threads of asyncio's default pool (32 at most)."""
PROMPT_SECONDS = 5.0


@contextmanager
def hang(path: Path) -> Iterator[None]:
    """Make a pipe without a writer, which blocks the threads that open it."""
    path.parent.mkdir(parents=True)
    os.mkfifo(path)
    try:
        yield
    finally:
        descriptor = os.open(path, os.O_RDWR)
        path.unlink()
        os.close(descriptor)


@pytest.fixture
async def resources(tmp_path: Path) -> AsyncIterator[Resources]:
    async with open_resources(Settings(home=tmp_path)) as resources:
        yield resources


async def stage_start(resources: Resources) -> None:
    start = {"prefix": "slow", "manifest_sha256": "0" * 64, "part": "", "model": "m"}
    await staging._stage_start(resources, start, resources.settings.home / "start")


async def check_health(resources: Resources) -> None:
    readiness = await health.readyz(resources, Response())
    assert readiness.checks["blobs"] == "down"


@pytest.mark.parametrize(("call", "key"), [(stage_start, f"slow/{MANIFEST_FILE}"), (check_health, health._PROBE_KEY)])
async def test_a_blob_store_that_hangs_does_not_stop_connections(
    resources: Resources,
    call: Callable[[Resources], Coroutine[Any, Any, None]],
    key: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(health, "CHECK_TIMEOUT_SECONDS", 0.2)
    with hang(resources.settings.home / "blobs" / key):
        calls = [asyncio.create_task(call(resources)) for _ in range(NUM_CALLS)]
        await asyncio.sleep(0.5)
        await asyncio.wait_for(asyncio.get_running_loop().getaddrinfo("localhost", 1), PROMPT_SECONDS)
        for task in calls:
            task.cancel()
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert all(outcome is None or isinstance(outcome, asyncio.CancelledError) for outcome in outcomes), outcomes[:3]

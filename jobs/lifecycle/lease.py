"""Leases on jobs: heartbeats beside the work, and the signals that stop it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import NoReturn

from jobs.lifecycle import transitions
from jobs.lifecycle.transitions import Claim, LeaseLost
from storage.db import Database
from storage.errors import StorageUnavailable

log = logging.getLogger("luthier.lease")

MAX_HEARTBEAT_SECONDS = 2.0
"""Upper bound on the time between heartbeats: a worker learns of a cancel or a pause from their
replies."""


class Lease:
    """State reported by the heartbeat. ``ended_event`` is set with ``lost`` or ``cancelled``."""

    def __init__(self) -> None:
        self.lost = False
        self.cancelled = False
        self.ended_event = asyncio.Event()
        self.pause_event = asyncio.Event()
        """Set when the process has to save and release the job."""

    def mark_lost(self) -> None:
        self.lost = True
        self.ended_event.set()

    def mark_cancelled(self) -> None:
        self.cancelled = True
        self.ended_event.set()


@asynccontextmanager
async def maintain_lease(db: Database, claim: Claim, lease_seconds: float) -> AsyncIterator[Lease]:
    """Renew the claim's lease while the body runs."""
    lease = Lease()
    heartbeat_task = asyncio.create_task(_send_heartbeats(db, claim, lease_seconds, lease))
    try:
        yield lease
    finally:
        heartbeat_task.cancel()
        with suppress(asyncio.CancelledError):
            await heartbeat_task


async def _send_heartbeats(db: Database, claim: Claim, lease_seconds: float, lease: Lease) -> None:
    async def beat() -> None:
        async with db.write() as session:
            reply = await transitions.heartbeat(session, claim, lease_seconds)
        if reply.cancel_requested:
            lease.mark_cancelled()
        if reply.pause_requested:
            lease.pause_event.set()

    try:
        await run_heartbeats(beat, lease_seconds, claim.job_id)
    except LeaseLost as error:
        log.warning("✗ %s attempt %d: %s", claim.job_id, claim.attempt, error)
        lease.mark_lost()


async def run_heartbeats(beat: Callable[[], Awaitable[object]], lease_seconds: float, task_id: str) -> NoReturn:
    """Call ``beat``, which renews the lease of a job or batch, until the lease is lost.

    Raises ``LeaseLost`` when ``beat`` does, and when no beat succeeded for two thirds of the lease
    by this process's own clock: the worker stops before any other may claim the task.
    """
    renewed_at = time.monotonic()
    while True:
        await asyncio.sleep(min(lease_seconds / 3, MAX_HEARTBEAT_SECONDS))
        started_at = time.monotonic()
        try:
            await beat()
        except StorageUnavailable:
            if time.monotonic() - renewed_at > lease_seconds * 2 / 3:
                raise LeaseLost(f"{task_id}: no heartbeat succeeded") from None
        else:
            renewed_at = started_at

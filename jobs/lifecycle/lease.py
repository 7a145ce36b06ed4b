"""Holding a job: a heartbeat beside the work, and the stop that comes of it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from jobs.lifecycle import transitions
from jobs.lifecycle.transitions import Claim, LeaseLost
from storage.db import Database
from storage.errors import StorageUnavailable

log = logging.getLogger("luthier.lease")


class Lease:
    """What the heartbeat has learnt. ``changed`` is set when one of the two flags rises."""

    def __init__(self) -> None:
        self.lost = False
        self.cancelled = False
        self.changed = asyncio.Event()
        self.pausing = asyncio.Event()
        """Save, and give the job up."""

    def lose(self) -> None:
        self.lost = True
        self.changed.set()

    def cancel(self) -> None:
        self.cancelled = True
        self.changed.set()


@asynccontextmanager
async def held(db: Database, claim: Claim, seconds: float) -> AsyncIterator[Lease]:
    """Keep the claim's lease alive while the body runs."""
    lease = Lease()
    beating = asyncio.create_task(_beat(db, claim, seconds, lease))
    try:
        yield lease
    finally:
        beating.cancel()
        with suppress(asyncio.CancelledError):
            await beating


async def _beat(db: Database, claim: Claim, seconds: float, lease: Lease) -> None:
    # At most two seconds between beats, because a cancel is heard of by them.
    pause = min(seconds / 3, 2.0)
    renewed = time.monotonic()
    while not lease.lost:
        await asyncio.sleep(pause)
        asked = time.monotonic()
        try:
            async with db.write() as session:
                beat = await transitions.heartbeat(session, claim, seconds)
        except LeaseLost:
            log.warning("✗ %s attempt %d: the lease is another's", claim.job_id, claim.attempt)
            lease.lose()
        except StorageUnavailable:
            # By its own clock this worker stops before anyone else may take the job.
            if time.monotonic() - renewed > seconds * 2 / 3:
                log.warning("✗ %s attempt %d: no heartbeat got through; stopping", claim.job_id, claim.attempt)
                lease.lose()
        else:
            renewed = asked
            if beat.cancel:
                lease.cancel()
            if beat.pause:
                lease.pausing.set()

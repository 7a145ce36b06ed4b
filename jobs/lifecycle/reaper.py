"""The reaper: takes jobs back from dead workers. Every worker and API process runs one."""

from __future__ import annotations

import asyncio
import logging

from jobs.lifecycle import transitions
from jobs.wakeup import WakeupChannel
from storage.db import Database
from storage.errors import StorageUnavailable

log = logging.getLogger("luthier.reaper")


async def reap_once(db: Database, wakeup: WakeupChannel) -> int:
    """Take back jobs whose lease expired and send wake-ups for all waiting jobs.

    Return the number of jobs taken back.
    """
    async with db.write() as session:
        reaped = await transitions.reap(session)
        waiting = await transitions.list_claimable_jobs(session)
    for job in reaped:
        log.warning("↻ %s attempt %d lost its worker; now %s", job.id, job.attempt, job.state)
    for job_id, attempt in waiting:
        await wakeup.notify(job_id, attempt)
    return len(reaped)


async def run_reaper(db: Database, wakeup: WakeupChannel, interval_seconds: float) -> None:
    while True:
        try:
            await reap_once(db, wakeup)
        except StorageUnavailable as error:
            log.warning("the reaper will retry: %s", error)
        await asyncio.sleep(interval_seconds)

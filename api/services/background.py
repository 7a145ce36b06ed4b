"""Background tasks of an API process."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from api.services.usage_meter import UsageMeter
from jobs.lifecycle.reaper import run_reaper
from jobs.resources import Resources
from storage import idempotency
from storage.errors import StorageUnavailable

log = logging.getLogger("luthier.api")

IDEMPOTENCY_CLEANUP_SECONDS = 600.0


@asynccontextmanager
async def background_tasks(resources: Resources, meter: UsageMeter) -> AsyncIterator[None]:
    """Run the background tasks until the context exits, then write the meter's remaining usage."""
    coroutines = [
        run_reaper(resources.db, resources.wakeup, resources.settings.reaper_interval_seconds),
        meter.run_flusher(),
        _run_idempotency_cleanup(resources),
    ]
    tasks = [asyncio.create_task(coroutine) for coroutine in coroutines]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        with suppress(StorageUnavailable):
            await meter.flush()


async def _run_idempotency_cleanup(resources: Resources) -> None:
    while True:
        await asyncio.sleep(IDEMPOTENCY_CLEANUP_SECONDS)
        try:
            async with resources.db.write() as session:
                await idempotency.delete_expired(session)
        except StorageUnavailable as error:
            log.warning("expired responses could not be deleted; trying again later: %s", error)

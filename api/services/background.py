"""What an API process does beside answering."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from api.services.usage_meter import Meter
from jobs.lifecycle.reaper import reap_for_ever
from jobs.resources import Resources
from storage import idempotency
from storage.errors import StorageUnavailable

log = logging.getLogger("luthier.api")

FORGET_SECONDS = 600.0


@asynccontextmanager
async def upkeep(rooms: Resources, meter: Meter) -> AsyncIterator[None]:
    """Until it is left; then what the meter still holds is written."""
    work = [
        reap_for_ever(rooms.db, rooms.wakeup, rooms.settings.reap_seconds),
        meter.flush_for_ever(),
        _forget_for_ever(rooms),
    ]
    tasks = [asyncio.create_task(each) for each in work]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        with suppress(StorageUnavailable):
            await meter.flush()


async def _forget_for_ever(rooms: Resources) -> None:
    while True:
        await asyncio.sleep(FORGET_SECONDS)
        try:
            async with rooms.db.write() as session:
                await idempotency.forget(session)
        except StorageUnavailable as error:
            log.warning("old answers are not forgotten yet: %s", error)

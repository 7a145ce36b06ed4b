"""Devices of the live workers, in Redis, for estimates that the API makes.

An API process may run on a machine without the workers' accelerators. Each worker measures its
device once, in a process of its own, and renews its entry until it stops. Losing Redis loses only
the estimates' basis.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from pathlib import Path

from pydantic import ValidationError
from redis.exceptions import RedisError

from jobs.resources import Resources
from jobs.runner.forkserver_client import ForkServer
from training.run_events import DeviceReport, parse_event

log = logging.getLogger("luthier.worker_devices")

KEY_PREFIX = "luthier:device:"
RENEW_SECONDS = 20.0
EXPIRE_SECONDS = 90
"""An entry disappears this long after its worker does."""
_CONNECTION_ERRORS = (RedisError, OSError, TimeoutError)


async def publish_device(resources: Resources, forkserver: ForkServer, worker: str, folder: Path) -> None:
    """Measure this worker's device, then publish it until cancelled.

    ``folder`` is scratch space.
    """
    report = await _measure_device(forkserver, folder)
    if report is None:
        return
    log.info("· trains on %s with %.1f GB free", report.device_type, report.free_bytes / 1e9)
    while True:
        with suppress(*_CONNECTION_ERRORS):
            pool = await resources.wakeup.get_pool()
            await pool.set(KEY_PREFIX + worker, report.model_dump_json(), ex=EXPIRE_SECONDS)
        await asyncio.sleep(RENEW_SECONDS)


async def load_worker_device(resources: Resources) -> DeviceReport | None:
    """Return the device of the worker with the least memory, since any worker may take a job.

    Return None if no live worker has published one, or Redis does not respond.
    """
    reports: list[DeviceReport] = []
    with suppress(*_CONNECTION_ERRORS):
        pool = await resources.wakeup.get_pool()
        keys = [key async for key in pool.scan_iter(match=f"{KEY_PREFIX}*")]
        for value in await pool.mget(keys) if keys else []:
            # An entry of another version is not a device that this one knows.
            with suppress(ValidationError):
                reports += [DeviceReport.model_validate_json(value)] if value else []
    return min(reports, key=lambda report: report.free_bytes, default=None)


async def _measure_device(forkserver: ForkServer, folder: Path) -> DeviceReport | None:
    """Measure in a child, because a fork server that has used a GPU cannot fork."""
    folder.mkdir()
    process = await forkserver.start_process(folder, "device")
    report: DeviceReport | None = None
    async for line in process.read_lines():
        with suppress(ValidationError):
            event = parse_event(line)
            report = event if isinstance(event, DeviceReport) else report
    if (code := await process.wait()) or report is None:
        log.warning("! the device could not be measured (exit code %d); estimates do without it", code)
    return report

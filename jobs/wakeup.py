"""Wake-up channel for idle workers, so that they rarely need to poll.

A wake-up carries ``(job_id, attempt)``. Losing it is harmless: workers also poll the database. Only
this module uses arq, and only for wake-ups: no retries, no results, no aborts, JSON instead of
pickle.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from arq import create_pool, func
from arq.connections import ArqRedis, RedisSettings
from arq.worker import Worker
from redis.exceptions import RedisError

log = logging.getLogger("luthier.wakeup")

QUEUE_NAME = "luthier:wakeup"
_CONNECTION_ERRORS = (RedisError, OSError, TimeoutError)


def _serialize(value: dict[str, Any]) -> bytes:
    # arq puts its own exceptions into a job's result. Their text is enough for a log.
    return json.dumps(value, default=str).encode()


class WakeupChannel:
    """Wake-ups over Redis. ``notify`` and ``listen`` do not raise while Redis is unavailable."""

    def __init__(self, settings: RedisSettings) -> None:
        self._settings = settings
        self._pool: ArqRedis | None = None
        self._connect_lock = asyncio.Lock()

    async def notify(self, job_id: str, attempt: int) -> bool:
        """Send a wake-up. Return False if it was lost."""
        try:
            pool = await self.get_pool()
            await pool.enqueue_job("wake_up", job_id, attempt, _job_id=f"{job_id}:{attempt}", _expires=60)
        except _CONNECTION_ERRORS as error:
            log.warning("lost the wake-up for %s: %s", job_id, type(error).__name__)
            return False
        return True

    async def listen(self, on_wakeup: Callable[[], None]) -> None:
        """Call ``on_wakeup`` for every wake-up, indefinitely.

        Reconnect when Redis is unavailable.
        """

        async def wake_up(ctx: dict[str, Any], job_id: str, attempt: int) -> None:
            on_wakeup()

        while True:
            # arq's worker returns or raises when it loses Redis. A new worker connects again.
            worker = Worker(
                functions=[func(wake_up, name="wake_up", keep_result=0, max_tries=1)],
                redis_settings=self._settings,
                queue_name=QUEUE_NAME,
                job_serializer=_serialize,
                job_deserializer=json.loads,
                handle_signals=False,
                retry_jobs=False,
                max_tries=1,
                keep_result=0,
                job_timeout=5,
                poll_delay=0.1,
                health_check_interval=3600,
            )
            try:
                await worker.async_run()
            except _CONNECTION_ERRORS as error:
                log.warning("Redis is unavailable (%s); workers still poll", type(error).__name__)
            finally:
                await _close_worker(worker)
            await asyncio.sleep(1.0)

    async def ping(self) -> None:
        """Check the connection. Raises ``RedisError``, ``OSError`` or ``TimeoutError``."""
        await (await self.get_pool()).ping()

    async def close(self) -> None:
        if self._pool:
            await self._pool.aclose()

    async def get_pool(self) -> ArqRedis:
        """Return the connection pool, opened on first use.

        Raises ``RedisError``, ``OSError`` or ``TimeoutError``.
        """
        async with self._connect_lock:
            if self._pool is None:
                self._pool = await create_pool(
                    self._settings,
                    job_serializer=_serialize,
                    job_deserializer=json.loads,
                    default_queue_name=QUEUE_NAME,
                )
            return self._pool


async def _close_worker(worker: Worker) -> None:
    # A wake-up that was in progress when Redis died has failed. Its result is not needed.
    await asyncio.gather(*worker.tasks.values(), return_exceptions=True)
    try:
        await worker.close()
    except _CONNECTION_ERRORS:
        # close() writes to Redis first. If that fails, it leaves the connections open.
        with suppress(*_CONNECTION_ERRORS):
            await worker.pool.aclose(close_connection_pool=True)


def connect(url: str) -> WakeupChannel:
    """Open ``redis://…``, ``rediss://…`` or ``unix:///path``. The connection opens on first use."""
    settings = RedisSettings.from_dsn(url)
    settings.conn_timeout = 1
    settings.conn_retries = 0
    return WakeupChannel(settings)

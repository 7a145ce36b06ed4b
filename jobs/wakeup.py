"""The doorbell: tells an idle worker that a job waits, so that it need not poll often.

A ring carries ``(job_id, attempt)`` and nothing depends on its arrival: workers poll the database as well. arq is used
for this and no more (no retries, no results, no aborts, JSON instead of pickle), here and nowhere else.
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
    # arq puts its own exceptions into a job's result; their text is enough for a log.
    return json.dumps(value, default=str).encode()


class WakeupChannel:
    """``ring`` and ``listen`` never raise because Redis is away."""

    def __init__(self, settings: RedisSettings) -> None:
        self._settings = settings
        self._pool: ArqRedis | None = None
        self._connect_lock = asyncio.Lock()

    async def notify(self, job_id: str, attempt: int) -> bool:
        """False where the ring was lost."""
        try:
            pool = await self.get_pool()
            await pool.enqueue_job("wake_up", job_id, attempt, _job_id=f"{job_id}:{attempt}", _expires=60)
        except _CONNECTION_ERRORS as error:
            log.warning("bell lost for %s: %s", job_id, type(error).__name__)
            return False
        return True

    async def listen(self, on_wakeup: Callable[[], None]) -> None:
        """Call ``on_ring`` for every ring, for ever. A Redis that dies is waited for."""

        async def wake_up(ctx: dict[str, Any], job_id: str, attempt: int) -> None:
            on_wakeup()

        while True:
            # arq's worker returns or raises when Redis goes away; a new one finds the new Redis.
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
                log.warning("redis is away (%s); polling goes on", type(error).__name__)
            finally:
                await _close_worker(worker)
            await asyncio.sleep(1.0)

    async def ping(self) -> None:
        """Raises ``RedisError``, ``OSError`` or ``TimeoutError`` where Redis is away."""
        await (await self.get_pool()).ping()

    async def close(self) -> None:
        if self._pool:
            await self._pool.aclose()

    async def get_pool(self) -> ArqRedis:
        """Return the connection pool, opened on first use. Raises ``RedisError``, ``OSError`` or ``TimeoutError``."""
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
    # A ring that was being answered when Redis died has failed by itself; nobody waits for what it says.
    await asyncio.gather(*worker.tasks.values(), return_exceptions=True)
    try:
        await worker.close()
    except _CONNECTION_ERRORS:
        # Its last word to a Redis that is gone failed, and it has not let go of its connections.
        with suppress(*_CONNECTION_ERRORS):
            await worker.pool.aclose(close_connection_pool=True)


def connect(url: str) -> WakeupChannel:
    """``redis://…``, ``rediss://…`` or ``unix:///path``. Connects on first use."""
    settings = RedisSettings.from_dsn(url)
    settings.conn_timeout = 1
    settings.conn_retries = 0
    return WakeupChannel(settings)

"""Process supervisor: starts services, restarts those that exit, and stops them in order."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from jobs.process import die_with_parent

log = logging.getLogger("luthier.launcher")

BACKOFF_SECONDS = (0.2, 0.5, 1.0, 2.0, 5.0)
STABLE_SECONDS = 30.0
"""A process that ran longer than this before it exited is restarted without delay."""

MAX_LOG_BYTES = 16 << 20


@dataclass
class Service:
    """Supervised process."""

    name: str
    command: list[str]
    environment: dict[str, str]
    log_file: Path
    grace_seconds: float = 40.0
    """Seconds between SIGTERM and SIGKILL.

    Training processes of a worker save a checkpoint in this time.
    """
    process: asyncio.subprocess.Process | None = None
    restarts: int = 0
    _quick_exits: int = field(default=0, repr=False)

    async def start(self) -> None:
        self.log_file.parent.mkdir(parents=True, exist_ok=True)
        if self.log_file.exists() and self.log_file.stat().st_size > MAX_LOG_BYTES:
            self.log_file.replace(self.log_file.with_suffix(".old.log"))
        parent = os.getpid()
        with self.log_file.open("ab") as out:
            self.process = await asyncio.create_subprocess_exec(
                *self.command,
                env=self.environment,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                # Ctrl-C in the terminal signals only the launcher, which stops the services in
                # order.
                start_new_session=True,
                preexec_fn=lambda: die_with_parent(parent, signal.SIGTERM),
            )

    async def restart_on_exit(self) -> None:
        """Restart the process whenever it exits."""
        while True:
            assert self.process is not None
            started = time.monotonic()
            code = await self.process.wait()
            uptime = time.monotonic() - started
            self._quick_exits = 0 if uptime > STABLE_SECONDS else self._quick_exits + 1
            delay = BACKOFF_SECONDS[min(self._quick_exits, len(BACKOFF_SECONDS)) - 1] if self._quick_exits else 0.0
            log.warning("↻ %s exited with %d after %.0f s; restarting in %.1f s", self.name, code, uptime, delay)
            await asyncio.sleep(delay)
            self.restarts += 1
            await self.start()

    async def stop(self) -> None:
        if self.process is None or self.process.returncode is not None:
            return
        with suppress(ProcessLookupError):
            self.process.terminate()
        try:
            await asyncio.wait_for(self.process.wait(), self.grace_seconds)
        except TimeoutError:
            log.warning("! %s did not stop within %.0f s; killing it", self.name, self.grace_seconds)
            self.process.kill()
            await self.process.wait()


async def supervise(
    services: list[Service], stop_event: asyncio.Event, on_ready: Callable[[], Awaitable[None]]
) -> None:
    """Run services until ``stop_event``. Start them in order and stop them in reverse order."""
    monitors: list[asyncio.Task[None]] = []
    ready: asyncio.Task[None] | None = None
    try:
        for service in services:
            await service.start()
            monitors.append(asyncio.create_task(service.restart_on_exit()))
        ready = asyncio.create_task(_run_callback(on_ready))
        stop = asyncio.create_task(stop_event.wait())
        done, _ = await asyncio.wait({ready, stop}, return_when=asyncio.FIRST_COMPLETED)
        if ready in done:
            ready.result()
        await stop
    finally:
        for task in [*monitors, *([ready] if ready else [])]:
            task.cancel()
        for service in reversed(services):
            await service.stop()


async def _run_callback(call: Callable[[], Awaitable[None]]) -> None:
    await call()

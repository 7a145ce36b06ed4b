"""Following a child: its lines in batches, and a guard that stops it when it must."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from pydantic import ValidationError

from jobs.lifecycle.lease import Lease
from jobs.runner.forkserver_client import Child
from storage.settings import Settings
from training.run_events import Line, Metrics, parse

log = logging.getLogger("luthier.follow")

# Longer than a step and its checkpoint take; after it the lease of a stopping worker would run out anyway.
STOP_GRACE_SECONDS = 30.0


class Followed:
    """A child being followed. ``stalled`` tells why the guard killed it."""

    def __init__(self, child: Child, gather: float) -> None:
        self.child = child
        self._gather = gather
        self.stalled = False
        self._heard = asyncio.Event()
        self._lines: asyncio.Queue[Line | None] = asyncio.Queue()

    async def batches(self) -> AsyncIterator[list[Line]]:
        """Lines as they come. Steps are told together that come within ``gather`` seconds of the batch before, and
        whatever piled up while that was written: each batch is a transaction, whose end the disk has to confirm."""
        clock, due = asyncio.get_running_loop().time, 0.0
        while True:
            batch = [await self._lines.get()]
            with suppress(TimeoutError):
                while isinstance(batch[-1], Metrics):
                    batch.append(await asyncio.wait_for(self._lines.get(), due - clock()))
            while not self._lines.empty():
                batch.append(self._lines.get_nowait())
            due = clock() + self._gather
            if lines := [line for line in batch if line is not None]:
                yield lines
            if batch[-1] is None:
                return

    async def _read(self) -> None:
        try:
            async for raw in self.child.lines():
                self._heard.set()
                self._take(raw)
        finally:
            self._lines.put_nowait(None)

    def _take(self, raw: bytes) -> None:
        try:
            self._lines.put_nowait(parse(raw))
        except ValidationError:
            # A library that prints must not end a run; what is missing then shows as a run without its last line.
            log.warning("! child %d said what is no report: %r", self.child.pid, raw[:200])

    async def _watch(self, seconds: float) -> None:
        with suppress(TimeoutError):
            while True:
                self._heard.clear()
                await asyncio.wait_for(self._heard.wait(), seconds)
        self.stalled = True
        log.warning("! child %d said nothing for %.0f s; killed", self.child.pid, seconds)
        self.child.kill()


@asynccontextmanager
async def followed(child: Child, lease: Lease, stopping: asyncio.Event, settings: Settings) -> AsyncIterator[Followed]:
    """Follow a child while the body runs; it is gone when the body is left."""
    run = Followed(child, settings.report_seconds)
    tasks = [
        asyncio.create_task(run._read()),
        asyncio.create_task(run._watch(settings.stall_seconds)),
        asyncio.create_task(_obey_lease(child, lease, settings.cancel_grace_seconds)),
        asyncio.create_task(_obey_stop(child, stopping)),
        asyncio.create_task(_obey_stop(child, lease.pausing)),
    ]
    try:
        yield run
    finally:
        child.kill()
        for task in tasks:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


async def _obey_lease(child: Child, lease: Lease, grace: float) -> None:
    await lease.changed.wait()
    if not lease.lost:
        child.ask_to_stop()
        await asyncio.sleep(grace)
    child.kill()


async def _obey_stop(child: Child, stopping: asyncio.Event) -> None:
    await stopping.wait()
    child.ask_to_stop()
    await asyncio.sleep(STOP_GRACE_SECONDS)
    child.kill()

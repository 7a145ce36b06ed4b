"""Following a child: its lines in batches, and a guard that stops it when it must."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from pydantic import ValidationError

from jobs.lifecycle.lease import Lease
from jobs.runner.forkserver_client import TrainingProcess
from storage.settings import Settings
from training.run_events import Metrics, RunEvent, parse_event

log = logging.getLogger("luthier.follow")

# Longer than a step and its checkpoint take; after it the lease of a stopping worker would run out anyway.
STOP_GRACE_SECONDS = 30.0


class ProcessMonitor:
    """A child being followed. ``stalled`` tells why the guard killed it."""

    def __init__(self, process: TrainingProcess, flush_seconds: float) -> None:
        self.process = process
        self._flush_seconds = flush_seconds
        self.stalled = False
        self._output_event = asyncio.Event()
        self._events: asyncio.Queue[RunEvent | None] = asyncio.Queue()

    async def read_batches(self) -> AsyncIterator[list[RunEvent]]:
        """Lines as they come. Steps are told together that come within ``gather`` seconds of the batch before, and
        whatever piled up while that was written: each batch is a transaction, whose end the disk has to confirm."""
        clock, due = asyncio.get_running_loop().time, 0.0
        while True:
            batch = [await self._events.get()]
            with suppress(TimeoutError):
                while isinstance(batch[-1], Metrics):
                    batch.append(await asyncio.wait_for(self._events.get(), due - clock()))
            while not self._events.empty():
                batch.append(self._events.get_nowait())
            due = clock() + self._flush_seconds
            if lines := [line for line in batch if line is not None]:
                yield lines
            if batch[-1] is None:
                return

    async def _read(self) -> None:
        try:
            async for raw in self.process.read_lines():
                self._output_event.set()
                self._enqueue(raw)
        finally:
            self._events.put_nowait(None)

    def _enqueue(self, raw: bytes) -> None:
        try:
            self._events.put_nowait(parse_event(raw))
        except ValidationError:
            # A library that prints must not end a run; what is missing then shows as a run without its last line.
            log.warning("! child %d said what is no report: %r", self.process.pid, raw[:200])

    async def _kill_if_stalled(self, stall_seconds: float) -> None:
        with suppress(TimeoutError):
            while True:
                self._output_event.clear()
                await asyncio.wait_for(self._output_event.wait(), stall_seconds)
        self.stalled = True
        log.warning("! child %d said nothing for %.0f s; killed", self.process.pid, stall_seconds)
        self.process.kill()


@asynccontextmanager
async def monitor(
    process: TrainingProcess, lease: Lease, stop_event: asyncio.Event, settings: Settings
) -> AsyncIterator[ProcessMonitor]:
    """Follow a child while the body runs; it is gone when the body is left."""
    run = ProcessMonitor(process, settings.progress_flush_seconds)
    tasks = [
        asyncio.create_task(run._read()),
        asyncio.create_task(run._kill_if_stalled(settings.stall_seconds)),
        asyncio.create_task(_stop_on_lease_change(process, lease, settings.cancel_grace_seconds)),
        asyncio.create_task(_stop_on_event(process, stop_event)),
        asyncio.create_task(_stop_on_event(process, lease.pause_event)),
    ]
    try:
        yield run
    finally:
        process.kill()
        for task in tasks:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


async def _stop_on_lease_change(process: TrainingProcess, lease: Lease, grace_seconds: float) -> None:
    await lease.change_event.wait()
    if not lease.lost:
        process.terminate()
        await asyncio.sleep(grace_seconds)
    process.kill()


async def _stop_on_event(process: TrainingProcess, stop_event: asyncio.Event) -> None:
    await stop_event.wait()
    process.terminate()
    await asyncio.sleep(STOP_GRACE_SECONDS)
    process.kill()

"""Monitoring of a training process: its events in batches, and tasks that stop it when required."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from pydantic import ValidationError

from jobs.lifecycle.lease import Lease
from jobs.runner.forkserver_client import TrainingProcess
from storage.settings import Settings
from training.run_events import Metrics, PhaseProgress, RunEvent, parse_event

log = logging.getLogger("luthier.monitor")

# Enough for one step and its checkpoint. A worker that stops later loses its lease anyway.
STOP_GRACE_SECONDS = 30.0


class ProcessMonitor:
    """Reads the events of one process. ``stalled`` is set if it was killed for lack of output.

    A process prints only after it has done a unit of work, and says how long the units of its phase
    may take. It may be silent for that long, or for ``stall_seconds`` if that is more.
    """

    def __init__(self, process: TrainingProcess, flush_seconds: float, stall_seconds: float) -> None:
        self.process = process
        self._flush_seconds = flush_seconds
        self._stall_seconds = stall_seconds
        self.max_silence_seconds = stall_seconds
        self.stalled = False
        self._output_event = asyncio.Event()
        self._events: asyncio.Queue[RunEvent | None] = asyncio.Queue()

    async def read_batches(self) -> AsyncIterator[list[RunEvent]]:
        """Yield events in batches, in order.

        Each batch becomes a transaction that the disk has to confirm. Steps and phases within
        ``flush_seconds`` of the last batch are therefore batched together, with all events that
        queued up in the meantime.
        """
        clock, due = asyncio.get_running_loop().time, 0.0
        while True:
            batch = [await self._events.get()]
            with suppress(TimeoutError):
                while isinstance(batch[-1], Metrics | PhaseProgress):
                    batch.append(await asyncio.wait_for(self._events.get(), due - clock()))
            while not self._events.empty():
                batch.append(self._events.get_nowait())
            due = clock() + self._flush_seconds
            if events := [event for event in batch if event is not None]:
                yield events
            if batch[-1] is None:
                return

    async def _read(self) -> None:
        try:
            async for line in self.process.read_lines():
                self._output_event.set()
                self._enqueue(line)
        finally:
            self._events.put_nowait(None)

    def _enqueue(self, line: bytes) -> None:
        try:
            event = parse_event(line)
        except ValidationError:
            # A library that prints must not end a run. A run without its final event fails anyway.
            log.warning("! process %d printed a line that is not an event: %r", self.process.pid, line[:200])
            return
        if isinstance(event, PhaseProgress):
            self.max_silence_seconds = max(self._stall_seconds, event.max_silence_seconds)
        self._events.put_nowait(event)

    async def _kill_if_stalled(self) -> None:
        with suppress(TimeoutError):
            while True:
                self._output_event.clear()
                await asyncio.wait_for(self._output_event.wait(), self.max_silence_seconds)
        self.stalled = True
        log.warning(
            "! process %d printed nothing for %.0f s and was killed", self.process.pid, self.max_silence_seconds
        )
        self.process.kill()


@asynccontextmanager
async def monitor(
    process: TrainingProcess, lease: Lease, stop_event: asyncio.Event, settings: Settings
) -> AsyncIterator[ProcessMonitor]:
    """Monitor a process while the body runs, and kill it when the body exits."""
    process_monitor = ProcessMonitor(process, settings.progress_flush_seconds, settings.stall_seconds)
    tasks = [
        asyncio.create_task(process_monitor._read()),
        asyncio.create_task(process_monitor._kill_if_stalled()),
        asyncio.create_task(_stop_on_lease_change(process, lease, settings.cancel_grace_seconds)),
        asyncio.create_task(_stop_on_event(process, stop_event)),
        asyncio.create_task(_stop_on_event(process, lease.pause_event)),
    ]
    try:
        yield process_monitor
    finally:
        process.kill()
        for task in tasks:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


async def _stop_on_lease_change(process: TrainingProcess, lease: Lease, grace_seconds: float) -> None:
    await lease.ended_event.wait()
    if not lease.lost:
        process.terminate()
        await asyncio.sleep(grace_seconds)
    process.kill()


async def _stop_on_event(process: TrainingProcess, stop_event: asyncio.Event) -> None:
    await stop_event.wait()
    process.terminate()
    await asyncio.sleep(STOP_GRACE_SECONDS)
    process.kill()

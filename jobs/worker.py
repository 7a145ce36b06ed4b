"""The worker: claims jobs, one attempt at a time for each slot, until it is asked to leave.

A ring or a poll wakes it; the database decides. SIGTERM lets children save and gives their jobs back.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import signal
import socket
from contextlib import suppress
from pathlib import Path

from jobs.batches import worker as batches
from jobs.integrations.exporter import Mirrors
from jobs.lifecycle import transitions
from jobs.lifecycle.reaper import reap_for_ever
from jobs.lifecycle.transitions import Phase
from jobs.resources import Resources, open_resources
from jobs.retention import checkpoints, expiry, job_cleanup
from jobs.runner.attempt import Attempt
from jobs.runner.forkserver_client import Children
from jobs.runner.scratch import scratch
from jobs.webhooks import sender as webhooks
from storage import logs
from storage.errors import StorageUnavailable
from storage.settings import Settings

log = logging.getLogger("luthier.worker")


class Worker:
    def __init__(self, rooms: Resources, children: Children, scratch: Path) -> None:
        self.rooms = rooms
        self.children = children
        self.scratch = scratch
        self.name = f"{socket.gethostname()}:{os.getpid()}"
        self.stopping = asyncio.Event()
        self._wake = asyncio.Event()
        # Reading a file must not wait for a GPU, so validation has a place of its own.
        self._free: dict[Phase, int] = {"validate": 1, "train": rooms.settings.worker_slots}
        self._attempts: set[asyncio.Task[None]] = set()
        self._mirrors = Mirrors(rooms)

    async def run(self) -> None:
        """Work until :meth:`stop`, then give back what is held."""
        settings = self.rooms.settings
        await self.children.warm()
        beside = [
            asyncio.create_task(self.rooms.wakeup.listen(self._wake.set)),
            asyncio.create_task(reap_for_ever(self.rooms.db, self.rooms.wakeup, settings.reap_seconds)),
            asyncio.create_task(self._tidy_for_ever()),
            asyncio.create_task(batches.work_for_ever(self.rooms, self.scratch)),
            asyncio.create_task(webhooks.send_for_ever(self.rooms.db, settings)),
        ]
        log.info("✓ worker %s is ready: %d slot(s)", self.name, settings.worker_slots)
        while not self.stopping.is_set():
            if not await self._claim_any():
                await self._pause()
        if self._attempts:
            await asyncio.wait(self._attempts)
        await self._mirrors.close()
        for task in beside:
            task.cancel()
        await asyncio.gather(*beside, return_exceptions=True)

    def stop(self) -> None:
        log.info("· worker %s leaves", self.name)
        self.stopping.set()
        self._wake.set()

    async def _claim_any(self) -> bool:
        """Start what can be started now. False where there was nothing."""
        found = False
        free = {phase for phase, places in self._free.items() if places}
        try:
            async with self.rooms.db.single() as connection:
                wanted = free & await transitions.claimable(connection) if free else free
        except StorageUnavailable as error:
            log.warning("no claim: %s", error)
            return False
        for phase in wanted:
            if not self.stopping.is_set():
                found = await self._claim(phase) or found
        return found

    async def _claim(self, phase: Phase) -> bool:
        try:
            async with self.rooms.db.write() as session:
                settings = self.rooms.settings
                claimed = await transitions.claim(
                    session, phase, self.name, settings.lease_seconds, settings.max_running_jobs
                )
        except StorageUnavailable as error:
            log.warning("no claim: %s", error)
            return False
        if claimed is None:
            return False
        claim, job = claimed
        self._free[phase] -= 1
        attempt = Attempt(self.rooms, self.children, self.scratch, claim, job, phase, self.stopping)
        task = asyncio.create_task(attempt.work())
        self._attempts.add(task)
        task.add_done_callback(lambda done: self._ended(done, phase))
        if phase == "train":
            self._mirrors.start(claim, job)
        return True

    def _ended(self, task: asyncio.Task[None], phase: Phase) -> None:
        self._attempts.discard(task)
        self._free[phase] += 1
        self._wake.set()
        if not task.cancelled() and (error := task.exception()):
            # The lease runs out and the job is taken up again; the reason must not get lost.
            log.error("! an attempt broke", exc_info=error)

    async def _pause(self) -> None:
        seconds = self.rooms.settings.poll_seconds * random.uniform(0.75, 1.25)
        with suppress(TimeoutError):
            await asyncio.wait_for(self._wake.wait(), seconds)
        self._wake.clear()

    async def _tidy_for_ever(self) -> None:
        while True:
            await asyncio.sleep(60)
            with suppress(StorageUnavailable):
                for job_id in await job_cleanup.untidy(self.rooms):
                    await job_cleanup.ended(self.rooms, job_id)
                await expiry.expire(self.rooms)
                await checkpoints.expire(self.rooms)


async def serve(settings: Settings) -> None:
    """Run a worker until SIGTERM or SIGINT."""
    with scratch(settings.work_dir) as folder:
        async with open_resources(settings) as rooms:
            children = Children(settings)
            worker = Worker(rooms, children, folder)
            loop = asyncio.get_running_loop()
            for sig in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(sig, worker.stop)
            try:
                await worker.run()
            finally:
                await children.close()


if __name__ == "__main__":
    logs.configure()
    asyncio.run(serve(Settings()))

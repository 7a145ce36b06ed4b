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
from jobs.integrations.exporter import MetricExporters
from jobs.lifecycle import transitions
from jobs.lifecycle.reaper import run_reaper
from jobs.lifecycle.transitions import Phase
from jobs.resources import Resources, open_resources
from jobs.retention import checkpoints, expiry, job_cleanup
from jobs.runner.attempt import Attempt
from jobs.runner.forkserver_client import ForkServer
from jobs.runner.scratch import create_scratch_folder
from jobs.webhooks import sender as webhooks
from storage import logs
from storage.errors import StorageUnavailable
from storage.settings import Settings

log = logging.getLogger("luthier.worker")


class Worker:
    def __init__(self, resources: Resources, forkserver: ForkServer, scratch: Path) -> None:
        self.resources = resources
        self.forkserver = forkserver
        self.scratch = scratch
        self.name = f"{socket.gethostname()}:{os.getpid()}"
        self.stop_event = asyncio.Event()
        self._wake_event = asyncio.Event()
        # Reading a file must not wait for a GPU, so validation has a place of its own.
        self._free_slots: dict[Phase, int] = {"validate": 1, "train": resources.settings.worker_slots}
        self._attempts: set[asyncio.Task[None]] = set()
        self._exporters = MetricExporters(resources)

    async def run(self) -> None:
        """Work until :meth:`stop`, then give back what is held."""
        settings = self.resources.settings
        await self.forkserver.ensure_running()
        beside = [
            asyncio.create_task(self.resources.wakeup.listen(self._wake_event.set)),
            asyncio.create_task(run_reaper(self.resources.db, self.resources.wakeup, settings.reaper_interval_seconds)),
            asyncio.create_task(self._run_cleanup()),
            asyncio.create_task(batches.run_batch_worker(self.resources, self.scratch)),
            asyncio.create_task(webhooks.run_sender(self.resources.db, settings)),
        ]
        log.info("✓ worker %s is ready: %d slot(s)", self.name, settings.worker_slots)
        while not self.stop_event.is_set():
            if not await self._claim_any():
                await self._wait_for_work()
        if self._attempts:
            await asyncio.wait(self._attempts)
        await self._exporters.close()
        for task in beside:
            task.cancel()
        await asyncio.gather(*beside, return_exceptions=True)

    def stop(self) -> None:
        log.info("· worker %s leaves", self.name)
        self.stop_event.set()
        self._wake_event.set()

    async def _claim_any(self) -> bool:
        """Start what can be started now. False where there was nothing."""
        found = False
        free = {phase for phase, places in self._free_slots.items() if places}
        try:
            async with self.resources.db.autocommit() as connection:
                wanted = free & await transitions.find_claimable_phases(connection) if free else free
        except StorageUnavailable as error:
            log.warning("no claim: %s", error)
            return False
        for phase in wanted:
            if not self.stop_event.is_set():
                found = await self._claim(phase) or found
        return found

    async def _claim(self, phase: Phase) -> bool:
        try:
            async with self.resources.db.write() as session:
                settings = self.resources.settings
                claimed = await transitions.claim(
                    session, phase, self.name, settings.lease_seconds, settings.max_running_jobs
                )
        except StorageUnavailable as error:
            log.warning("no claim: %s", error)
            return False
        if claimed is None:
            return False
        claim, job = claimed
        self._free_slots[phase] -= 1
        attempt = Attempt(self.resources, self.forkserver, self.scratch, claim, job, phase, self.stop_event)
        task = asyncio.create_task(attempt.work())
        self._attempts.add(task)
        task.add_done_callback(lambda done: self._on_attempt_done(done, phase))
        if phase == "train":
            self._exporters.start(claim, job)
        return True

    def _on_attempt_done(self, task: asyncio.Task[None], phase: Phase) -> None:
        self._attempts.discard(task)
        self._free_slots[phase] += 1
        self._wake_event.set()
        if not task.cancelled() and (error := task.exception()):
            # The lease runs out and the job is taken up again; the reason must not get lost.
            log.error("! an attempt broke", exc_info=error)

    async def _wait_for_work(self) -> None:
        seconds = self.resources.settings.poll_seconds * random.uniform(0.75, 1.25)
        with suppress(TimeoutError):
            await asyncio.wait_for(self._wake_event.wait(), seconds)
        self._wake_event.clear()

    async def _run_cleanup(self) -> None:
        while True:
            await asyncio.sleep(60)
            with suppress(StorageUnavailable):
                for job_id in await job_cleanup.find_jobs_to_clean_up(self.resources):
                    await job_cleanup.clean_up_job(self.resources, job_id)
                await expiry.expire(self.resources)
                await checkpoints.expire(self.resources)


async def serve(settings: Settings) -> None:
    """Run a worker until SIGTERM or SIGINT."""
    with create_scratch_folder(settings.work_dir) as folder:
        async with open_resources(settings) as resources:
            children = ForkServer(settings)
            worker = Worker(resources, children, folder)
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

"""The worker: claims jobs and runs one attempt per slot until it is stopped.

A wake-up or a poll starts a claim; the database decides which worker gets the job. On SIGTERM the
training processes save, and the worker releases their jobs.
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
from jobs.worker_devices import publish_device
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
        # Validation has its own slot, because reading a file must not wait for a GPU.
        self._free_slots: dict[Phase, int] = {"validate": 1, "train": resources.settings.worker_slots}
        self._attempts: set[asyncio.Task[None]] = set()
        self._exporters = MetricExporters(resources)

    async def run(self) -> None:
        """Run attempts until :meth:`stop`, then release the claimed jobs."""
        settings = self.resources.settings
        await self.forkserver.ensure_running()
        background_tasks = [
            asyncio.create_task(self.resources.wakeup.listen(self._wake_event.set)),
            asyncio.create_task(run_reaper(self.resources.db, self.resources.wakeup, settings.reaper_interval_seconds)),
            asyncio.create_task(self._run_cleanup()),
            asyncio.create_task(batches.run_batch_worker(self.resources, self.scratch)),
            asyncio.create_task(webhooks.run_sender(self.resources.db, settings)),
            asyncio.create_task(publish_device(self.resources, self.forkserver, self.name, self.scratch / "device")),
        ]
        log.info("✓ worker %s is ready: %d slot(s)", self.name, settings.worker_slots)
        while not self.stop_event.is_set():
            if not await self._claim_any():
                await self._wait_for_work()
        if self._attempts:
            await asyncio.wait(self._attempts)
        await self._exporters.close()
        for task in background_tasks:
            task.cancel()
        await asyncio.gather(*background_tasks, return_exceptions=True)

    def stop(self) -> None:
        log.info("· worker %s is stopping", self.name)
        self.stop_event.set()
        self._wake_event.set()

    async def _claim_any(self) -> bool:
        """Claim one job per phase with a free slot. Return False if there was none."""
        claimed = False
        free = {phase for phase, slots in self._free_slots.items() if slots}
        try:
            async with self.resources.db.autocommit() as connection:
                phases = free & await transitions.find_claimable_phases(connection) if free else free
        except StorageUnavailable as error:
            log.warning("cannot claim a job: %s", error)
            return False
        for phase in phases:
            if not self.stop_event.is_set():
                claimed = await self._claim(phase) or claimed
        return claimed

    async def _claim(self, phase: Phase) -> bool:
        try:
            async with self.resources.db.write() as session:
                settings = self.resources.settings
                claimed = await transitions.claim(
                    session, phase, self.name, settings.lease_seconds, settings.max_running_jobs
                )
        except StorageUnavailable as error:
            log.warning("cannot claim a job: %s", error)
            return False
        if claimed is None:
            return False
        claim, job = claimed
        self._free_slots[phase] -= 1
        attempt = Attempt(self.resources, self.forkserver, self.scratch, claim, job, phase, self.stop_event)
        task = asyncio.create_task(attempt.work())
        self._attempts.add(task)
        task.add_done_callback(lambda ended_task: self._on_attempt_done(ended_task, phase))
        if phase == "train":
            self._exporters.start(claim, job)
        return True

    def _on_attempt_done(self, task: asyncio.Task[None], phase: Phase) -> None:
        self._attempts.discard(task)
        self._free_slots[phase] += 1
        self._wake_event.set()
        if not task.cancelled() and (error := task.exception()):
            # Only this log line keeps the reason: the job is claimed again when its lease expires.
            log.error("! an attempt failed unexpectedly", exc_info=error)

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
            forkserver = ForkServer(settings)
            worker = Worker(resources, forkserver, folder)
            loop = asyncio.get_running_loop()
            for sig in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(sig, worker.stop)
            try:
                await worker.run()
            finally:
                await forkserver.close()


if __name__ == "__main__":
    logs.configure()
    asyncio.run(serve(Settings()))

"""Preflight checks of files before a job exists.

The API process starts a validation process itself.

It writes scratch files only. The process has the same limits as a worker's validation process, and
estimates for the device that a worker has reported. It ends at a deadline, or when the client
disconnects. A fork server imports the libraries at the first
check and is closed after some idle time.
"""

from __future__ import annotations

import asyncio
import json
import logging
from contextlib import suppress
from pathlib import Path

from pydantic import ValidationError
from sqlalchemy import select
from sqlmodel import col

from jobs.lifecycle.states import SUCCEEDED
from jobs.resources import Resources
from jobs.runner.forkserver_client import ForkServer, TrainingProcess
from jobs.runner.scratch import create_scratch_folder
from jobs.runner.staging import stage_inputs
from jobs.worker_devices import load_worker_device
from storage.settings import Settings
from storage.tables import Job
from training import run_events
from training.spec import DEVICE_FILE, PREVIEW_FILE

log = logging.getLogger("luthier.preflight")

TIMEOUT_SECONDS = 60.0
"""Limit for one check, from the staging of its files on."""
SLOT_TIMEOUT_SECONDS = 20.0
"""Limit for the wait for a free slot."""
MAX_CONCURRENT = 2
"""Checks at a time in one API process."""
IDLE_SECONDS = 300.0
MAX_SPEED_SAMPLES = 20
"""Number of recent jobs whose speed is the basis of an estimate."""


class PreflightError(Exception):
    """The check gave no result."""


class PreflightBusy(PreflightError):
    """No slot became free."""


class PreflightTimeout(PreflightError):
    """The deadline passed."""


class PreflightCrashed(PreflightError):
    """The process ended without its final event."""


class PreflightRunner:
    """Runs the preflight checks of one API process, which closes it on exit."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._slots = asyncio.Semaphore(MAX_CONCURRENT)
        self._forkserver: ForkServer | None = None
        self._active_runs = 0
        self._idle_timer: asyncio.TimerHandle | None = None
        self._close_task: asyncio.Task[None] | None = None

    async def preflight(self, resources: Resources, job: Job) -> run_events.Preflight | run_events.Failure:
        """Validate the files of ``job``. Raises ``PreflightError`` and ``StorageError``."""
        device = await load_worker_device(resources)
        files = {DEVICE_FILE: device.model_dump_json()} if device else {}
        last = (await self._run_phase(resources, job, "preflight", files))[-1]
        assert isinstance(last, run_events.Preflight | run_events.Failure), last
        return last

    async def preview(
        self, resources: Resources, job: Job, rows: int
    ) -> list[run_events.PreviewRow] | run_events.Failure:
        """Return the first rows as the model sees them.

        Raises ``PreflightError`` and ``StorageError``.
        """
        events = await self._run_phase(resources, job, "preview", {PREVIEW_FILE: json.dumps({"rows": rows})})
        if isinstance(events[-1], run_events.Failure):
            return events[-1]
        return [event for event in events if isinstance(event, run_events.PreviewRow)]

    async def close(self) -> None:
        self._close_if_idle()
        if self._close_task:
            await self._close_task

    async def _run_phase(
        self, resources: Resources, job: Job, phase: str, files: dict[str, str]
    ) -> list[run_events.RunEvent]:
        try:
            await asyncio.wait_for(self._slots.acquire(), SLOT_TIMEOUT_SECONDS)
        except TimeoutError:
            raise PreflightBusy from None
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                with create_scratch_folder(self._settings.work_dir) as scratch:
                    folder = scratch / phase
                    await stage_inputs(resources, job, folder)
                    for name, text in files.items():
                        (folder / name).write_text(text)
                    return await self._run_process(folder, phase)
        except TimeoutError:
            raise PreflightTimeout from None
        finally:
            self._slots.release()

    async def _run_process(self, folder: Path, phase: str) -> list[run_events.RunEvent]:
        self._active_runs += 1
        if self._idle_timer:
            self._idle_timer.cancel()
        try:
            self._forkserver = self._forkserver or ForkServer(self._settings)
            process = await _start_process(self._forkserver, folder, phase, self._settings.validate_memory_bytes)
            try:
                events = [event async for line in process.read_lines() if (event := _parse_event(line))]
                code = await process.wait()
            finally:
                process.kill()
        finally:
            self._active_runs -= 1
            self._idle_timer = asyncio.get_running_loop().call_later(IDLE_SECONDS, self._close_if_idle)
        if not events or code:
            log.warning("! a %s process ended with exit code %d", phase, code)
            raise PreflightCrashed
        return events

    def _close_if_idle(self) -> None:
        if self._idle_timer:
            self._idle_timer.cancel()
        if self._forkserver and not self._active_runs:
            self._close_task = asyncio.create_task(self._forkserver.close())
            self._forkserver = None


async def _start_process(forkserver: ForkServer, folder: Path, phase: str, memory_bytes: int) -> TrainingProcess:
    """Start a process. A cancelled start still completes, since the fork server replies to it."""
    start = asyncio.create_task(forkserver.start_process(folder, phase, memory_bytes))
    try:
        return await asyncio.shield(start)
    except asyncio.CancelledError:
        start.add_done_callback(_kill_abandoned)
        raise


def _kill_abandoned(task: asyncio.Task[TrainingProcess]) -> None:
    with suppress(OSError, asyncio.CancelledError):
        task.result().kill()


def _parse_event(line: bytes) -> run_events.RunEvent | None:
    """Parse a line of output. Return None for a line that a library printed."""
    with suppress(ValidationError):
        return run_events.parse_event(line)
    return None


async def load_recent_speeds(resources: Resources, job: Job) -> list[float]:
    """Return tokens per second of the newest jobs with equal base, task, method and update type."""
    conditions = [
        col(Job.state) == SUCCEEDED,
        col(Job.base_model) == job.base_model,
        col(Job.task) == job.task,
        col(Job.update)["type"].as_string() == job.update["type"],
        col(Job.method)["type"].as_string() == job.method["type"],
    ]
    query = select(col(Job.progress)).where(*conditions).order_by(col(Job.finished_at).desc()).limit(MAX_SPEED_SAMPLES)
    async with resources.db.read() as session:
        rows = (await session.execute(query)).scalars().all()
    speeds = (progress.get("tokens_per_second") for progress in rows if progress)
    return [speed for speed in speeds if speed]

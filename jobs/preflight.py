"""A look at files before there is a job: the validating child once more, started by the process that was asked.

Nothing is written but scratch files. The child has the limits of a worker's; a deadline ends it, and so does whoever
asked by leaving. What it imports is imported at the first look and dropped when nobody looked for a while.
"""

from __future__ import annotations

import asyncio
import json
import logging
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from sqlalchemy import select
from sqlmodel import col

from jobs.lifecycle.states import SUCCEEDED
from jobs.resources import Resources
from jobs.runner.forkserver_client import ForkServer, TrainingProcess
from jobs.runner.scratch import create_scratch_folder
from jobs.runner.staging import stage_inputs
from storage.settings import Settings
from storage.tables import Job
from training import run_events
from training.spec import PREVIEW_FILE

log = logging.getLogger("luthier.preflight")

TIMEOUT_SECONDS = 60.0
"""For one look, from its child's start."""
SLOT_TIMEOUT_SECONDS = 20.0
"""For a place."""
MAX_CONCURRENT = 2
"""In one process."""
IDLE_SECONDS = 300.0
MAX_SPEED_SAMPLES = 20
"""Newest earlier runs by whose speed a new one is estimated."""


class PreflightError(Exception):
    """Nothing was found out."""


class PreflightBusy(PreflightError):
    """No place became free."""


class PreflightTimeout(PreflightError):
    """The deadline passed."""


class PreflightCrashed(PreflightError):
    """The child ended without its last line."""


class PreflightRunner:
    """Where a process looks at files. Close it with the process."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._slots = asyncio.Semaphore(MAX_CONCURRENT)
        self._forkserver: ForkServer | None = None
        self._active_runs = 0
        self._idle_timer: asyncio.TimerHandle | None = None
        self._close_task: asyncio.Task[None] | None = None

    async def preflight(self, resources: Resources, job: Job) -> run_events.Preflight | run_events.Failure:
        """Raises ``LookError`` and ``StorageError``."""
        last = (await self._run_phase(resources, job, "preflight", {}))[-1]
        assert isinstance(last, run_events.Preflight | run_events.Failure), last
        return last

    async def preview(
        self, resources: Resources, job: Job, rows: int
    ) -> list[run_events.PreviewRow] | run_events.Failure:
        """Raises ``LookError`` and ``StorageError``."""
        lines = await self._run_phase(resources, job, "preview", {"rows": rows})
        if isinstance(lines[-1], run_events.Failure):
            return lines[-1]
        return [line for line in lines if isinstance(line, run_events.PreviewRow)]

    async def close(self) -> None:
        self._close_if_idle()
        if self._close_task:
            await self._close_task

    async def _run_phase(
        self, resources: Resources, job: Job, phase: str, options: dict[str, Any]
    ) -> list[run_events.RunEvent]:
        try:
            await asyncio.wait_for(self._slots.acquire(), SLOT_TIMEOUT_SECONDS)
        except TimeoutError:
            raise PreflightBusy from None
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                with create_scratch_folder(self._settings.work_dir) as room:
                    folder = room / phase
                    await stage_inputs(resources, job, folder)
                    (folder / PREVIEW_FILE).write_text(json.dumps(options))
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
            child = await _start_process(self._forkserver, folder, phase, self._settings.validate_memory_bytes)
            try:
                lines = [line async for raw in child.read_lines() if (line := _parse_event(raw))]
                code = await child.wait()
            finally:
                child.kill()
        finally:
            self._active_runs -= 1
            self._idle_timer = asyncio.get_running_loop().call_later(IDLE_SECONDS, self._close_if_idle)
        if not lines or code:
            log.warning("! a %s ended with code %d", phase, code)
            raise PreflightCrashed
        return lines

    def _close_if_idle(self) -> None:
        if self._idle_timer:
            self._idle_timer.cancel()
        if self._forkserver and not self._active_runs:
            self._close_task = asyncio.create_task(self._forkserver.close())
            self._forkserver = None


async def _start_process(forkserver: ForkServer, folder: Path, phase: str, memory_bytes: int) -> TrainingProcess:
    """A start that was begun is finished, though nobody may wait for it any more: the parent answers it."""
    starting = asyncio.create_task(forkserver.start_process(folder, phase, memory_bytes))
    try:
        return await asyncio.shield(starting)
    except asyncio.CancelledError:
        starting.add_done_callback(_kill_abandoned)
        raise


def _kill_abandoned(task: asyncio.Task[TrainingProcess]) -> None:
    with suppress(OSError, asyncio.CancelledError):
        task.result().kill()


def _parse_event(raw: bytes) -> run_events.RunEvent | None:
    """None for what a library printed."""
    with suppress(ValidationError):
        return run_events.parse_event(raw)
    return None


async def load_recent_speeds(resources: Resources, job: Job) -> list[float]:
    """Tokens a second of the newest runs like this one: the same base, task, method and kind of update."""
    alike = [
        col(Job.state) == SUCCEEDED,
        col(Job.base_model) == job.base_model,
        col(Job.task) == job.task,
        col(Job.update)["type"].as_string() == job.update["type"],
        col(Job.method)["type"].as_string() == job.method["type"],
    ]
    query = select(col(Job.progress)).where(*alike).order_by(col(Job.finished_at).desc()).limit(MAX_SPEED_SAMPLES)
    async with resources.db.read() as session:
        found = (await session.execute(query)).scalars().all()
    speeds = (progress.get("tokens_per_second") for progress in found if progress)
    return [speed for speed in speeds if speed]

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
from jobs.runner.forkserver_client import Child, Children
from jobs.runner.scratch import scratch
from jobs.runner.staging import stage_in
from storage.settings import Settings
from storage.tables import Job
from training import run_events
from training.spec import PREVIEW

log = logging.getLogger("luthier.preflight")

SECONDS = 60.0
"""For one look, from its child's start."""
WAITING_SECONDS = 20.0
"""For a place."""
AT_ONCE = 2
"""In one process."""
IDLE_SECONDS = 300.0
REMEMBERED_RUNS = 20
"""Newest earlier runs by whose speed a new one is estimated."""


class LookError(Exception):
    """Nothing was found out."""


class TooBusy(LookError):
    """No place became free."""


class TooSlow(LookError):
    """The deadline passed."""


class LookCrashed(LookError):
    """The child ended without its last line."""


class Desk:
    """Where a process looks at files. Close it with the process."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._places = asyncio.Semaphore(AT_ONCE)
        self._children: Children | None = None
        self._looking = 0
        self._timer: asyncio.TimerHandle | None = None
        self._closing: asyncio.Task[None] | None = None

    async def preflight(self, rooms: Resources, job: Job) -> run_events.Preflight | run_events.Failure:
        """Raises ``LookError`` and ``StorageError``."""
        last = (await self._look(rooms, job, "preflight", {}))[-1]
        assert isinstance(last, run_events.Preflight | run_events.Failure), last
        return last

    async def preview(self, rooms: Resources, job: Job, rows: int) -> list[run_events.PreviewRow] | run_events.Failure:
        """Raises ``LookError`` and ``StorageError``."""
        lines = await self._look(rooms, job, "preview", {"rows": rows})
        if isinstance(lines[-1], run_events.Failure):
            return lines[-1]
        return [line for line in lines if isinstance(line, run_events.PreviewRow)]

    async def close(self) -> None:
        self._drop()
        if self._closing:
            await self._closing

    async def _look(self, rooms: Resources, job: Job, phase: str, options: dict[str, Any]) -> list[run_events.Line]:
        try:
            await asyncio.wait_for(self._places.acquire(), WAITING_SECONDS)
        except TimeoutError:
            raise TooBusy from None
        try:
            async with asyncio.timeout(SECONDS):
                with scratch(self._settings.work_dir) as room:
                    folder = room / phase
                    await stage_in(rooms, job, folder)
                    (folder / PREVIEW).write_text(json.dumps(options))
                    return await self._run(folder, phase)
        except TimeoutError:
            raise TooSlow from None
        finally:
            self._places.release()

    async def _run(self, folder: Path, phase: str) -> list[run_events.Line]:
        self._looking += 1
        if self._timer:
            self._timer.cancel()
        try:
            self._children = self._children or Children(self._settings)
            child = await _started(self._children, folder, phase, self._settings.validate_memory_bytes)
            try:
                lines = [line async for raw in child.lines() if (line := _parsed(raw))]
                code = await child.wait()
            finally:
                child.kill()
        finally:
            self._looking -= 1
            self._timer = asyncio.get_running_loop().call_later(IDLE_SECONDS, self._drop)
        if not lines or code:
            log.warning("! a %s ended with code %d", phase, code)
            raise LookCrashed
        return lines

    def _drop(self) -> None:
        if self._timer:
            self._timer.cancel()
        if self._children and not self._looking:
            self._closing = asyncio.create_task(self._children.close())
            self._children = None


async def _started(children: Children, folder: Path, phase: str, memory: int) -> Child:
    """A start that was begun is finished, though nobody may wait for it any more: the parent answers it."""
    starting = asyncio.create_task(children.start(folder, phase, memory))
    try:
        return await asyncio.shield(starting)
    except asyncio.CancelledError:
        starting.add_done_callback(_abandoned)
        raise


def _abandoned(starting: asyncio.Task[Child]) -> None:
    with suppress(OSError, asyncio.CancelledError):
        starting.result().kill()


def _parsed(raw: bytes) -> run_events.Line | None:
    """None for what a library printed."""
    with suppress(ValidationError):
        return run_events.parse(raw)
    return None


async def earlier_speeds(rooms: Resources, job: Job) -> list[float]:
    """Tokens a second of the newest runs like this one: the same base, task, method and kind of update."""
    alike = [
        col(Job.state) == SUCCEEDED,
        col(Job.base_model) == job.base_model,
        col(Job.task) == job.task,
        col(Job.update)["type"].as_string() == job.update["type"],
        col(Job.method)["type"].as_string() == job.method["type"],
    ]
    query = select(col(Job.progress)).where(*alike).order_by(col(Job.finished_at).desc()).limit(REMEMBERED_RUNS)
    async with rooms.db.read() as session:
        found = (await session.execute(query)).scalars().all()
    speeds = (progress.get("tokens_per_second") for progress in found if progress)
    return [speed for speed in speeds if speed]

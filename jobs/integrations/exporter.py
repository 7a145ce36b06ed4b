"""Beside a running job: its figures are read from its rows and handed to a sink's process, until the job ends.

The job does not wait for it and does not fail with it: what goes wrong is an event of level ``warn``.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from jobs.integrations import KINDS
from jobs.integrations.sink import Close, Closed, Open, Opened, Status, Step
from jobs.lifecycle import transitions
from jobs.lifecycle.states import CANCELLED, FAILED, SUCCEEDED, model_name
from jobs.lifecycle.transitions import Claim, LeaseLost, NewEvent
from jobs.metrics.scalars import measured
from jobs.resources import Resources
from storage.errors import StorageUnavailable
from storage.settings import integration_environment
from storage.tables import Job

log = logging.getLogger("luthier.integrations")

POLL_SECONDS = 2.0
LEAVING_SECONDS = 10.0
"""Of a worker that was asked to leave."""
ANSWER_SECONDS = 60.0
"""A service that takes longer to begin or to end a run is given up."""
ERROR_CHARACTERS = 300

Answer = TypeVar("Answer", bound=BaseModel)

_STATUS: dict[str, Status] = {SUCCEEDED: "succeeded", FAILED: "failed", CANCELLED: "cancelled"}


class SinkFailed(Exception):
    """Its message is for the job's owner."""


class Mirrors:
    """Those of one worker."""

    def __init__(self, rooms: Resources) -> None:
        self._rooms = rooms
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, claim: Claim, job: Job) -> None:
        for integration in job.integrations or []:
            task = asyncio.create_task(mirror(self._rooms, claim, job, integration))
            self._tasks.add(task)
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            log.error("! a mirror broke", exc_info=error)

    async def close(self) -> None:
        """The attempts are over: let what is on its way arrive."""
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=LEAVING_SECONDS)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)


async def mirror(rooms: Resources, claim: Claim, job: Job, integration: dict[str, Any]) -> None:
    """While the claim is in force, and what is left after it."""
    kind = integration["type"]
    title = KINDS[kind].title
    try:
        async with _process(rooms, kind) as sink:
            opened = await sink.ask(_opening(job, integration[kind]), Opened)
            where = f": {opened.url}" if opened.url else ""
            await _tell(
                rooms, claim, NewEvent(f"The figures of this job go to {title}{where}", data={"url": opened.url})
            )
            status = await _follow(rooms, claim, sink, opened.step)
            await sink.ask(Close(status=status), Closed)
    except SinkFailed as error:
        log.warning("! %s: %s: %s", job.id, kind, error)
        await _tell(rooms, claim, NewEvent(f"Figures no longer go to {title}: {error}", level="warn"))


_SILENT = "the service does not answer."


class _Sink:
    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin
        assert process.stdout
        assert process.stderr
        self._process = process
        self._orders, self._answers = process.stdin, process.stdout
        self._said = asyncio.create_task(_last_line(process.stderr))

    async def tell(self, order: BaseModel) -> None:
        """Raises ``SinkFailed``."""
        try:
            self._orders.write(order.model_dump_json().encode() + b"\n")
            await asyncio.wait_for(self._orders.drain(), ANSWER_SECONDS)
        except TimeoutError:
            raise SinkFailed(_SILENT) from None
        except OSError:
            raise SinkFailed(await self._why()) from None

    async def ask(self, order: BaseModel, answer: type[Answer]) -> Answer:
        """Raises ``SinkFailed``."""
        await self.tell(order)
        try:
            return answer.model_validate_json(await asyncio.wait_for(self._answers.readline(), ANSWER_SECONDS))
        except TimeoutError:
            raise SinkFailed(_SILENT) from None
        except ValidationError:
            raise SinkFailed(await self._why()) from None

    async def _why(self) -> str:
        """Of a process that has closed its end."""
        try:
            said = await asyncio.wait_for(asyncio.shield(self._said), ANSWER_SECONDS)
        except TimeoutError:
            return _SILENT
        return said[:ERROR_CHARACTERS] or f"its process ended with code {await self._process.wait()}."

    async def close(self) -> None:
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()
        await self._said
        self._orders.close()


@asynccontextmanager
async def _process(rooms: Resources, kind: str) -> AsyncIterator[_Sink]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "jobs.integrations", kind, str(os.getpid())),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=integration_environment(rooms.settings),
    )
    sink = _Sink(process)
    try:
        yield sink
    finally:
        await sink.close()


async def _last_line(stream: asyncio.StreamReader) -> str:
    """A traceback's last line says what went wrong."""
    last = b""
    while data := await stream.read(65536):
        last = (last + data)[-65536:]
    lines = [line for line in last.decode(errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else ""


def _opening(job: Job, target: dict[str, Any]) -> Open:
    told = ("base_model", "task", "seed", "training_file", "validation_file")
    asked = {name: getattr(job, name) for name in told} | {"method": job.method["type"], "model": model_name(job)}
    update = {f"update.{name}": value for name, value in job.update.items()}
    return Open(job_id=job.id, target=target, config={**asked, **update, **job.hyperparameters})


async def _follow(rooms: Resources, claim: Claim, sink: _Sink, last_step: int) -> Status:
    seq, status = 0, None
    while status is None:
        await asyncio.sleep(POLL_SECONDS)
        # A database that is away is asked again.
        with suppress(StorageUnavailable):
            # Before the figures, so that those of the last moment are still sent.
            ending = await _status(rooms, claim)
            for at_seq, scalars in await measured(rooms, claim.job_id, seq):
                seq = at_seq
                if scalars.step > last_step:
                    last_step = scalars.step
                    await sink.tell(Step(at=scalars.at, step=scalars.step, values=dict(scalars.values)))
            status = ending
    return status


async def _status(rooms: Resources, claim: Claim) -> Status | None:
    """None while the claim is in force."""
    async with rooms.db.read() as session:
        job = await session.get_one(Job, claim.job_id)
    if job.owner == claim.owner:
        return None
    return _STATUS.get(job.state, "left")


async def _tell(rooms: Resources, claim: Claim, note: NewEvent) -> None:
    """A job that has ended is told nothing more."""
    with suppress(LeaseLost):
        async with rooms.db.write() as session:
            await transitions.record(session, claim, [note])

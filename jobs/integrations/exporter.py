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

from jobs.integrations import INTEGRATION_KINDS
from jobs.integrations.sink import CloseCommand, CloseResponse, OpenCommand, OpenResponse, Status, StepCommand
from jobs.lifecycle import transitions
from jobs.lifecycle.states import CANCELLED, FAILED, SUCCEEDED, model_name
from jobs.lifecycle.transitions import Claim, LeaseLost, NewEvent
from jobs.metrics.scalars import load_scalars
from jobs.resources import Resources
from storage.errors import StorageUnavailable
from storage.settings import build_integration_environment
from storage.tables import Job

log = logging.getLogger("luthier.integrations")

POLL_SECONDS = 2.0
SHUTDOWN_SECONDS = 10.0
"""Of a worker that was asked to leave."""
RESPONSE_TIMEOUT_SECONDS = 60.0
"""A service that takes longer to begin or to end a run is given up."""
MAX_ERROR_CHARACTERS = 300

ResponseT = TypeVar("ResponseT", bound=BaseModel)

_STATUS_BY_STATE: dict[str, Status] = {SUCCEEDED: "succeeded", FAILED: "failed", CANCELLED: "cancelled"}


class SinkFailed(Exception):
    """Its message is for the job's owner."""


class MetricExporters:
    """Those of one worker."""

    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, claim: Claim, job: Job) -> None:
        for integration in job.integrations or []:
            task = asyncio.create_task(export_metrics(self._resources, claim, job, integration))
            self._tasks.add(task)
            task.add_done_callback(self._on_export_done)

    def _on_export_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            log.error("! a mirror broke", exc_info=error)

    async def close(self) -> None:
        """The attempts are over: let what is on its way arrive."""
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=SHUTDOWN_SECONDS)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)


async def export_metrics(resources: Resources, claim: Claim, job: Job, integration: dict[str, Any]) -> None:
    """While the claim is in force, and what is left after it."""
    kind = integration["type"]
    title = INTEGRATION_KINDS[kind].title
    try:
        async with _open_sink(resources, kind) as sink:
            opened = await sink.request(_build_open_command(job, integration[kind]), OpenResponse)
            where = f": {opened.url}" if opened.url else ""
            await _record_event(
                resources, claim, NewEvent(f"The figures of this job go to {title}{where}", data={"url": opened.url})
            )
            status = await _export_steps(resources, claim, sink, opened.step)
            await sink.request(CloseCommand(status=status), CloseResponse)
    except SinkFailed as error:
        log.warning("! %s: %s: %s", job.id, kind, error)
        await _record_event(resources, claim, NewEvent(f"Figures no longer go to {title}: {error}", level="warn"))


_NO_RESPONSE = "the service does not answer."


class _SinkProcess:
    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin
        assert process.stdout
        assert process.stderr
        self._process = process
        self._commands, self._responses = process.stdin, process.stdout
        self._stderr_task = asyncio.create_task(_read_last_line(process.stderr))

    async def send(self, command: BaseModel) -> None:
        """Raises ``SinkFailed``."""
        try:
            self._commands.write(command.model_dump_json().encode() + b"\n")
            await asyncio.wait_for(self._commands.drain(), RESPONSE_TIMEOUT_SECONDS)
        except TimeoutError:
            raise SinkFailed(_NO_RESPONSE) from None
        except OSError:
            raise SinkFailed(await self._read_error()) from None

    async def request(self, command: BaseModel, response_type: type[ResponseT]) -> ResponseT:
        """Raises ``SinkFailed``."""
        await self.send(command)
        try:
            return response_type.model_validate_json(
                await asyncio.wait_for(self._responses.readline(), RESPONSE_TIMEOUT_SECONDS)
            )
        except TimeoutError:
            raise SinkFailed(_NO_RESPONSE) from None
        except ValidationError:
            raise SinkFailed(await self._read_error()) from None

    async def _read_error(self) -> str:
        """Of a process that has closed its end."""
        try:
            said = await asyncio.wait_for(asyncio.shield(self._stderr_task), RESPONSE_TIMEOUT_SECONDS)
        except TimeoutError:
            return _NO_RESPONSE
        return said[:MAX_ERROR_CHARACTERS] or f"its process ended with code {await self._process.wait()}."

    async def close(self) -> None:
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()
        await self._stderr_task
        self._commands.close()


@asynccontextmanager
async def _open_sink(resources: Resources, kind: str) -> AsyncIterator[_SinkProcess]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "jobs.integrations", kind, str(os.getpid())),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=build_integration_environment(resources.settings),
    )
    sink = _SinkProcess(process)
    try:
        yield sink
    finally:
        await sink.close()


async def _read_last_line(stream: asyncio.StreamReader) -> str:
    """A traceback's last line says what went wrong."""
    last = b""
    while data := await stream.read(65536):
        last = (last + data)[-65536:]
    lines = [line for line in last.decode(errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else ""


def _build_open_command(job: Job, target: dict[str, Any]) -> OpenCommand:
    told = ("base_model", "task", "seed", "training_file", "validation_file")
    asked = {name: getattr(job, name) for name in told} | {"method": job.method["type"], "model": model_name(job)}
    update = {f"update.{name}": value for name, value in job.update.items()}
    return OpenCommand(job_id=job.id, target=target, config={**asked, **update, **job.hyperparameters})


async def _export_steps(resources: Resources, claim: Claim, sink: _SinkProcess, last_step: int) -> Status:
    seq, status = 0, None
    while status is None:
        await asyncio.sleep(POLL_SECONDS)
        # A database that is away is asked again.
        with suppress(StorageUnavailable):
            # Before the figures, so that those of the last moment are still sent.
            ending = await _load_status(resources, claim)
            for at_seq, scalars in await load_scalars(resources, claim.job_id, seq):
                seq = at_seq
                if scalars.step > last_step:
                    last_step = scalars.step
                    await sink.send(StepCommand(at=scalars.wall_time, step=scalars.step, values=dict(scalars.values)))
            status = ending
    return status


async def _load_status(resources: Resources, claim: Claim) -> Status | None:
    """None while the claim is in force."""
    async with resources.db.read() as session:
        job = await session.get_one(Job, claim.job_id)
    if job.owner == claim.owner:
        return None
    return _STATUS_BY_STATE.get(job.state, "left")


async def _record_event(resources: Resources, claim: Claim, event: NewEvent) -> None:
    """A job that has ended is told nothing more."""
    with suppress(LeaseLost):
        async with resources.db.write() as session:
            await transitions.append_events(session, claim, [event])

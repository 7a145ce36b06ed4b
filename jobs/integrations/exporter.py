"""Export of a running job's metrics from the database to sink processes, until the job ends.

The job neither waits for an export nor fails with it. Export errors become events of level
``warn``.
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
"""Time that a stopping worker gives its exports to finish."""
RESPONSE_TIMEOUT_SECONDS = 60.0
"""An export fails if the service takes longer than this to open or close a run."""
MAX_ERROR_CHARACTERS = 300

ResponseT = TypeVar("ResponseT", bound=BaseModel)

_STATUS_BY_STATE: dict[str, Status] = {SUCCEEDED: "succeeded", FAILED: "failed", CANCELLED: "cancelled"}


class SinkFailed(Exception):
    """The export failed. The message is shown to the job's owner."""


class MetricExporters:
    """The running metric exports of one worker."""

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
            log.error("! a metric export failed", exc_info=error)

    async def close(self) -> None:
        """Let running exports finish after the attempts have ended. Cancel late ones."""
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=SHUTDOWN_SECONDS)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)


async def export_metrics(resources: Resources, claim: Claim, job: Job, integration: dict[str, Any]) -> None:
    """Export metrics while the claim is valid, then export the remaining steps."""
    kind = integration["type"]
    title = INTEGRATION_KINDS[kind].title
    try:
        async with _open_sink(resources, kind) as sink:
            opened = await sink.request(_build_open_command(job, integration[kind]), OpenResponse)
            location = f": {opened.url}" if opened.url else ""
            message = f"Metrics of this job are exported to {title}{location}"
            await _record_event(resources, claim, NewEvent(message, data={"url": opened.url}))
            status = await _export_steps(resources, claim, sink, opened.step)
            await sink.request(CloseCommand(status=status), CloseResponse)
    except SinkFailed as error:
        log.warning("! %s: %s: %s", job.id, kind, error)
        message = f"The export of metrics to {title} stopped: {error}"
        await _record_event(resources, claim, NewEvent(message, level="warn"))


_NO_RESPONSE = "the service does not respond."


class _SinkProcess:
    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin
        assert process.stdout
        assert process.stderr
        self._process = process
        self._commands, self._responses = process.stdin, process.stdout
        self._stderr_task = asyncio.create_task(_read_last_line(process.stderr))

    async def send(self, command: BaseModel) -> None:
        """Send a command that has no response. Raises ``SinkFailed``."""
        try:
            self._commands.write(command.model_dump_json().encode() + b"\n")
            await asyncio.wait_for(self._commands.drain(), RESPONSE_TIMEOUT_SECONDS)
        except TimeoutError:
            raise SinkFailed(_NO_RESPONSE) from None
        except OSError:
            raise SinkFailed(await self._read_error()) from None

    async def request(self, command: BaseModel, response_type: type[ResponseT]) -> ResponseT:
        """Send a command and return its response. Raises ``SinkFailed``."""
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
        """Return the error of a process that has closed its pipes."""
        try:
            error = await asyncio.wait_for(asyncio.shield(self._stderr_task), RESPONSE_TIMEOUT_SECONDS)
        except TimeoutError:
            return _NO_RESPONSE
        return error[:MAX_ERROR_CHARACTERS] or f"its process ended with code {await self._process.wait()}."

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
    """Return the last non-empty line. In a traceback it names the error."""
    tail = b""
    while data := await stream.read(65536):
        tail = (tail + data)[-65536:]
    lines = [line for line in tail.decode(errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else ""


def _build_open_command(job: Job, target: dict[str, Any]) -> OpenCommand:
    columns = ("base_model", "task", "seed", "training_file", "validation_file")
    config = {name: getattr(job, name) for name in columns} | {"method": job.method["type"], "model": model_name(job)}
    update = {f"update.{name}": value for name, value in job.update.items()}
    return OpenCommand(job_id=job.id, target=target, config={**config, **update, **job.hyperparameters})


async def _export_steps(resources: Resources, claim: Claim, sink: _SinkProcess, last_step: int) -> Status:
    seq, status = 0, None
    while status is None:
        await asyncio.sleep(POLL_SECONDS)
        # Retry while the database is unavailable.
        with suppress(StorageUnavailable):
            # Read the status before the metrics, so that the last steps are still sent.
            new_status = await _load_status(resources, claim)
            for step_seq, scalars in await load_scalars(resources, claim.job_id, seq):
                seq = step_seq
                if scalars.step > last_step:
                    last_step = scalars.step
                    await sink.send(StepCommand(at=scalars.wall_time, step=scalars.step, values=dict(scalars.values)))
            status = new_status
    return status


async def _load_status(resources: Resources, claim: Claim) -> Status | None:
    """Return how the job ended, or None while the claim is valid."""
    async with resources.db.read() as session:
        job = await session.get_one(Job, claim.job_id)
    if job.owner == claim.owner:
        return None
    return _STATUS_BY_STATE.get(job.state, "left")


async def _record_event(resources: Resources, claim: Claim, event: NewEvent) -> None:
    """Append an event, unless the claim has ended."""
    with suppress(LeaseLost):
        async with resources.db.write() as session:
            await transitions.append_events(session, claim, [event])

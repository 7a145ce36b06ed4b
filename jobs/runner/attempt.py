"""One attempt at one phase of a job, from the claim to the row's next state, whatever comes.

The child's last line, or its absence, decides the end: see ``Attempt._conclude``.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inference.protocol.errors import EngineError, EngineUnavailable
from jobs.lifecycle import transitions
from jobs.lifecycle.lease import Lease, maintain_lease
from jobs.lifecycle.states import CANCELLED, QUEUED, TERMINAL, VALIDATING
from jobs.lifecycle.transitions import Claim, LeaseLost, NewEvent, Phase
from jobs.resources import Resources
from jobs.retention import job_cleanup
from jobs.runner import recorder
from jobs.runner.forkserver_client import ForkServer
from jobs.runner.monitor import ProcessMonitor, monitor
from jobs.runner.staging import stage_checkpoint, stage_inputs
from storage.errors import ModelNotPulled, StorageError
from storage.tables import Job
from training import run_events

log = logging.getLogger("luthier.attempt")

ENGINE_WAIT_SECONDS = 60.0


class RetryableFailure(Exception):
    """An abnormal end that another attempt may not meet."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.error = {"code": code, "message": message, "param": None}


class PermanentFailure(Exception):
    """An end that another attempt would meet again."""

    def __init__(self, error: dict[str, Any], events: list[NewEvent]) -> None:
        super().__init__(error["message"])
        self.error = error
        self.events = events


@dataclass(frozen=True)
class Attempt:
    resources: Resources
    forkserver: ForkServer
    scratch: Path
    claim: Claim
    job: Job
    phase: Phase
    stop_event: asyncio.Event
    """Set when the worker was asked to leave."""

    async def work(self) -> None:
        """What goes wrong ends in the job's row. Raises ``StorageUnavailable`` where even that cannot be written."""
        started = time.monotonic()
        log.info("→ %s %s attempt %d", self.phase, self.job.id, self.claim.attempt)
        async with maintain_lease(self.resources.db, self.claim, self.resources.settings.lease_seconds) as lease:
            try:
                end = await self._execute(lease)
            except LeaseLost:
                end = "lease lost"
            finally:
                shutil.rmtree(self._folder, ignore_errors=True)
        log.info("← %s %s: %s in %.2f s", self.phase, self.job.id, end, time.monotonic() - started)
        await job_cleanup.clean_up_job(self.resources, self.job.id)

    @property
    def _folder(self) -> Path:
        return self.scratch / f"{self.phase}-{self.claim.owner.rpartition(':')[2]}"

    async def _execute(self, lease: Lease) -> str:
        db, claim = self.resources.db, self.claim
        try:
            return await self._run(lease)
        except LeaseLost:
            if not lease.cancelled:
                raise
            async with db.write() as session:
                job = await transitions.transition(session, claim, CANCELLED, [NewEvent("The job was cancelled.")])
        except PermanentFailure as error:
            async with db.write() as session:
                job = await transitions.fail(session, claim, error.error, error.events)
        except ModelNotPulled as error:
            async with db.write() as session:
                missing = {"code": "base_model_unavailable", "message": str(error), "param": "model"}
                job = await transitions.fail(session, claim, missing)
        except (RetryableFailure, StorageError) as error:
            await self._record_crash(error)
            return f"crashed: {error}"
        return job.state

    async def _record_crash(self, error: RetryableFailure | StorageError) -> None:
        lost = {"code": "storage_unavailable", "message": f"Storage failed: {error}.", "param": None}
        async with self.resources.db.write() as session:
            limit = self.resources.settings.max_failures
            await transitions.crash(
                session, self.claim, error.error if isinstance(error, RetryableFailure) else lost, limit
            )

    async def _run(self, lease: Lease) -> str:
        resources, settings = self.resources, self.resources.settings
        await stage_inputs(resources, self.job, self._folder)
        if self.phase == "train":
            await stage_checkpoint(resources, self.job, self._folder)
        memory = settings.validate_memory_bytes if self.phase == "validate" else None
        child = await self.forkserver.start_process(self._folder, self.phase, memory)
        watch = monitor(child, lease, self.stop_event, settings)
        async with watch as process_monitor:
            last = await self._record_events(process_monitor)
            code = await child.wait()
        if lease.lost or lease.cancelled:
            raise LeaseLost(self.job.id)
        return await self._conclude(last, code, process_monitor.stalled, lease.pause_event.is_set())

    async def _record_events(self, process_monitor: ProcessMonitor) -> run_events.RunEvent | None:
        """Make each line durable in the order it came; the last one tells the end."""
        last: run_events.RunEvent | None = None
        async for batch in process_monitor.read_batches():
            told: list[recorder.ProgressEvent] = []
            for line in batch:
                if isinstance(line, recorder.ProgressEvent):
                    told.append(line)
                elif isinstance(line, run_events.Checkpoint):
                    await self._record_progress(told)
                    await recorder.record_checkpoint(self.resources, self.claim, self.job, self._folder, line)
                    shutil.rmtree(self._folder / line.path)
                else:
                    last = line
            await self._record_progress(told)
        return last

    async def _record_progress(self, events: list[recorder.ProgressEvent]) -> None:
        if events:
            await recorder.record_progress(self.resources, self.claim, events)
            events.clear()

    async def _conclude(
        self, last_event: run_events.RunEvent | None, exit_code: int, stalled: bool, pause_requested: bool
    ) -> str:
        match last_event:
            case run_events.Validated():
                await recorder.record_validation(self.resources, self.claim, last_event)
                await self.resources.wakeup.notify(self.job.id, self.claim.attempt)
                return "validated"
            case run_events.Result():
                await self._publish_result(last_event)
                return "succeeded"
            case run_events.Failure():
                notes = [_event_from_dataset_error(fault) for fault in last_event.faults]
                raise PermanentFailure(
                    {"code": last_event.code, "message": last_event.message, "param": last_event.param}, notes
                )
            case _ if pause_requested:
                return await self._release("The worker has let the job go, so that it can pause.")
            case _ if self.stop_event.is_set():
                return await self._release("The worker leaves; the job goes on from its last checkpoint elsewhere.")
            case _ if stalled:
                seconds = self.resources.settings.stall_seconds
                raise RetryableFailure(
                    "stalled", f"The run made no progress for {seconds:.0f} seconds and was stopped."
                )
            case _:
                raise RetryableFailure(
                    "crash_loop", f"The training process ended unexpectedly ({_describe_exit(exit_code)})."
                )

    async def _publish_result(self, result: run_events.Result) -> None:
        """The engine may be starting anew; wait for it a while before giving the attempt up."""
        deadline = time.monotonic() + ENGINE_WAIT_SECONDS
        while True:
            try:
                return await recorder.publish_result(self.resources, self.claim, self.job, self._folder, result)
            except EngineUnavailable as error:
                if time.monotonic() > deadline:
                    raise RetryableFailure("internal_error", "The inference engine did not answer.") from error
                await asyncio.sleep(1.0)
            except EngineError as error:
                message = f"The engine could not load the result: {error}."
                raise PermanentFailure({"code": "parity_failed", "message": message, "param": None}, []) from error

    async def _release(self, message: str) -> str:
        state = VALIDATING if self.phase == "validate" else QUEUED
        async with self.resources.db.write() as session:
            job = await transitions.transition(session, self.claim, state, [NewEvent(message)])
        assert job.state not in TERMINAL
        await self.resources.wakeup.notify(self.job.id, self.claim.attempt)
        return f"released: {job.state}"


def _describe_exit(exit_code: int) -> str:
    return f"signal {-exit_code}" if exit_code < 0 else f"exit code {exit_code}"


def _event_from_dataset_error(error: run_events.DatasetError) -> NewEvent:
    place = f"{error.file}, line {error.line}" if error.line else error.file
    return NewEvent(f"{place}: {error.message}", level="error", data=error.model_dump())

"""One attempt at one phase of a job, from the claim to the job's next state.

The training process's last event, or its absence, decides the outcome: see ``Attempt._conclude``.
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
from training import run_events, run_reports

log = logging.getLogger("luthier.attempt")

ENGINE_WAIT_SECONDS = 60.0


class RetryableFailure(Exception):
    """An abnormal end that another attempt may avoid."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.error = {"code": code, "message": message, "param": None}


class PermanentFailure(Exception):
    """A failure that every attempt would repeat."""

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
    """Set when the worker has to stop."""

    async def work(self) -> None:
        """Run the attempt and record its outcome, failures included.

        Raises ``StorageUnavailable`` if the outcome cannot be written.
        """
        started = time.monotonic()
        log.info("→ %s %s attempt %d", self.phase, self.job.id, self.claim.attempt)
        async with maintain_lease(self.resources.db, self.claim, self.resources.settings.lease_seconds) as lease:
            try:
                outcome = await self._execute(lease)
            except LeaseLost:
                outcome = "lease lost"
            finally:
                shutil.rmtree(self._folder, ignore_errors=True)
        log.info("← %s %s: %s in %.2f s", self.phase, self.job.id, outcome, time.monotonic() - started)
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
                failure = {"code": "base_model_unavailable", "message": str(error), "param": "model"}
                job = await transitions.fail(session, claim, failure)
        except (RetryableFailure, StorageError) as error:
            await self._record_crash(error)
            return f"crashed: {error}"
        return job.state

    async def _record_crash(self, error: RetryableFailure | StorageError) -> None:
        if isinstance(error, RetryableFailure):
            details = error.error
        else:
            details = {"code": "storage_unavailable", "message": f"Storage failed: {error}.", "param": None}
        async with self.resources.db.write() as session:
            await transitions.crash(session, self.claim, details, self.resources.settings.max_failures)

    async def _run(self, lease: Lease) -> str:
        resources, settings = self.resources, self.resources.settings
        await stage_inputs(resources, self.job, self._folder)
        if self.phase == "train":
            await stage_checkpoint(resources, self.job, self._folder)
        memory = settings.validate_memory_bytes if self.phase == "validate" else None
        process = await self.forkserver.start_process(self._folder, self.phase, memory)
        async with monitor(process, lease, self.stop_event, settings) as process_monitor:
            last_event = await self._record_events(process_monitor)
            exit_code = await process.wait()
        if lease.lost or lease.cancelled:
            raise LeaseLost(self.job.id)
        return await self._conclude(last_event, exit_code, process_monitor, lease.pause_event.is_set())

    async def _record_events(self, process_monitor: ProcessMonitor) -> run_events.RunEvent | None:
        """Record events in order and return the last one that is neither progress nor a
        checkpoint."""
        last_event: run_events.RunEvent | None = None
        async for batch in process_monitor.read_batches():
            pending: list[recorder.ProgressEvent] = []
            for event in batch:
                if isinstance(event, run_events.PhaseProgress) and self.phase == "validate":
                    # Only a running job has a phase.
                    continue
                if isinstance(event, recorder.ProgressEvent):
                    pending.append(event)
                elif isinstance(event, run_events.Checkpoint):
                    await self._record_progress(pending)
                    await recorder.record_checkpoint(self.resources, self.claim, self.job, self._folder, event)
                    shutil.rmtree(self._folder / event.path)
                else:
                    last_event = event
            await self._record_progress(pending)
        return last_event

    async def _record_progress(self, events: list[recorder.ProgressEvent]) -> None:
        if events:
            await recorder.record_progress(self.resources, self.claim, events)
            events.clear()

    async def _conclude(
        self,
        last_event: run_events.RunEvent | None,
        exit_code: int,
        process_monitor: ProcessMonitor,
        pause_requested: bool,
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
                events = [_event_from_dataset_error(error) for error in last_event.faults]
                raise PermanentFailure(
                    {"code": last_event.code, "message": last_event.message, "param": last_event.param}, events
                )
            case _ if pause_requested:
                return await self._release("The worker released the job, so that it can pause.")
            case _ if self.stop_event.is_set():
                return await self._release(
                    "The worker is stopping. Another worker resumes the job from its last checkpoint."
                )
            case _ if process_monitor.stalled:
                seconds = process_monitor.max_silence_seconds
                raise RetryableFailure(
                    "stalled", f"The run made no progress for {seconds:.0f} seconds and was stopped."
                )
            case _:
                raise RetryableFailure(
                    "crash_loop", f"The training process ended unexpectedly ({_describe_exit(exit_code)})."
                )

    async def _publish_result(self, result: run_events.Result) -> None:
        """Publish the result. Wait for a restarting engine before giving up the attempt."""
        deadline = time.monotonic() + ENGINE_WAIT_SECONDS
        while True:
            try:
                return await recorder.publish_result(self.resources, self.claim, self.job, self._folder, result)
            except EngineUnavailable as error:
                if time.monotonic() > deadline:
                    raise RetryableFailure("internal_error", "The inference engine did not respond.") from error
                await asyncio.sleep(1.0)
            except EngineError as error:
                message = f"The engine could not load the result: {error}"
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


def _event_from_dataset_error(error: run_reports.DatasetError) -> NewEvent:
    location = f"{error.file}, line {error.line}" if error.line else error.file
    return NewEvent(f"{location}: {error.message}", level="error", data=error.model_dump())

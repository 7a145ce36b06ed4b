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
from jobs.lifecycle.lease import Lease, held
from jobs.lifecycle.states import CANCELLED, QUEUED, TERMINAL, VALIDATING
from jobs.lifecycle.transitions import Claim, LeaseLost, NewEvent, Phase
from jobs.resources import Resources
from jobs.retention import job_cleanup
from jobs.runner import recorder
from jobs.runner.forkserver_client import Children
from jobs.runner.monitor import Followed, followed
from jobs.runner.staging import stage_checkpoint, stage_in
from storage.errors import ModelNotPulled, StorageError
from storage.tables import Job
from training import run_events

log = logging.getLogger("luthier.attempt")

ENGINE_PATIENCE_SECONDS = 60.0


class Crashed(Exception):
    """An abnormal end that another attempt may not meet."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.error = {"code": code, "message": message, "param": None}


class Failed(Exception):
    """An end that another attempt would meet again."""

    def __init__(self, error: dict[str, Any], notes: list[NewEvent]) -> None:
        super().__init__(error["message"])
        self.error = error
        self.notes = notes


@dataclass(frozen=True)
class Attempt:
    rooms: Resources
    children: Children
    scratch: Path
    claim: Claim
    job: Job
    phase: Phase
    stopping: asyncio.Event
    """Set when the worker was asked to leave."""

    async def work(self) -> None:
        """What goes wrong ends in the job's row. Raises ``StorageUnavailable`` where even that cannot be written."""
        started = time.monotonic()
        log.info("→ %s %s attempt %d", self.phase, self.job.id, self.claim.attempt)
        async with held(self.rooms.db, self.claim, self.rooms.settings.lease_seconds) as lease:
            try:
                end = await self._ended(lease)
            except LeaseLost:
                end = "lease lost"
            finally:
                shutil.rmtree(self._folder, ignore_errors=True)
        log.info("← %s %s: %s in %.2f s", self.phase, self.job.id, end, time.monotonic() - started)
        await job_cleanup.ended(self.rooms, self.job.id)

    @property
    def _folder(self) -> Path:
        return self.scratch / f"{self.phase}-{self.claim.owner.rpartition(':')[2]}"

    async def _ended(self, lease: Lease) -> str:
        db, claim = self.rooms.db, self.claim
        try:
            return await self._run(lease)
        except LeaseLost:
            if not lease.cancelled:
                raise
            async with db.write() as session:
                job = await transitions.move(session, claim, CANCELLED, [NewEvent("The job was cancelled.")])
        except Failed as error:
            async with db.write() as session:
                job = await transitions.fail(session, claim, error.error, error.notes)
        except ModelNotPulled as error:
            async with db.write() as session:
                missing = {"code": "base_model_unavailable", "message": str(error), "param": "model"}
                job = await transitions.fail(session, claim, missing)
        except (Crashed, StorageError) as error:
            await self._crash(error)
            return f"crashed: {error}"
        return job.state

    async def _crash(self, error: Crashed | StorageError) -> None:
        lost = {"code": "storage_unavailable", "message": f"Storage failed: {error}.", "param": None}
        async with self.rooms.db.write() as session:
            limit = self.rooms.settings.max_failures
            await transitions.crash(session, self.claim, error.error if isinstance(error, Crashed) else lost, limit)

    async def _run(self, lease: Lease) -> str:
        rooms, settings = self.rooms, self.rooms.settings
        await stage_in(rooms, self.job, self._folder)
        if self.phase == "train":
            await stage_checkpoint(rooms, self.job, self._folder)
        memory = settings.validate_memory_bytes if self.phase == "validate" else None
        child = await self.children.start(self._folder, self.phase, memory)
        watch = followed(child, lease, self.stopping, settings)
        async with watch as run:
            last = await self._follow(run)
            code = await child.wait()
        if lease.lost or lease.cancelled:
            raise LeaseLost(self.job.id)
        return await self._conclude(last, code, run.stalled, lease.pausing.is_set())

    async def _follow(self, run: Followed) -> run_events.Line | None:
        """Make each line durable in the order it came; the last one tells the end."""
        last: run_events.Line | None = None
        async for batch in run.batches():
            told: list[recorder.Told] = []
            for line in batch:
                if isinstance(line, recorder.Told):
                    told.append(line)
                elif isinstance(line, run_events.Checkpoint):
                    await self._tell(told)
                    await recorder.checkpoint(self.rooms, self.claim, self.job, self._folder, line)
                    shutil.rmtree(self._folder / line.path)
                else:
                    last = line
            await self._tell(told)
        return last

    async def _tell(self, lines: list[recorder.Told]) -> None:
        if lines:
            await recorder.told(self.rooms, self.claim, lines)
            lines.clear()

    async def _conclude(self, last: run_events.Line | None, code: int, stalled: bool, pausing: bool) -> str:
        match last:
            case run_events.Validated():
                await recorder.validated(self.rooms, self.claim, last)
                await self.rooms.wakeup.notify(self.job.id, self.claim.attempt)
                return "validated"
            case run_events.Result():
                await self._finish(last)
                return "succeeded"
            case run_events.Failure():
                notes = [_fault_note(fault) for fault in last.faults]
                raise Failed({"code": last.code, "message": last.message, "param": last.param}, notes)
            case _ if pausing:
                return await self._release("The worker has let the job go, so that it can pause.")
            case _ if self.stopping.is_set():
                return await self._release("The worker leaves; the job goes on from its last checkpoint elsewhere.")
            case _ if stalled:
                seconds = self.rooms.settings.stall_seconds
                raise Crashed("stalled", f"The run made no progress for {seconds:.0f} seconds and was stopped.")
            case _:
                raise Crashed("crash_loop", f"The training process ended unexpectedly ({_how(code)}).")

    async def _finish(self, result: run_events.Result) -> None:
        """The engine may be starting anew; wait for it a while before giving the attempt up."""
        deadline = time.monotonic() + ENGINE_PATIENCE_SECONDS
        while True:
            try:
                return await recorder.finish(self.rooms, self.claim, self.job, self._folder, result)
            except EngineUnavailable as error:
                if time.monotonic() > deadline:
                    raise Crashed("internal_error", "The inference engine did not answer.") from error
                await asyncio.sleep(1.0)
            except EngineError as error:
                message = f"The engine could not load the result: {error}."
                raise Failed({"code": "parity_failed", "message": message, "param": None}, []) from error

    async def _release(self, message: str) -> str:
        state = VALIDATING if self.phase == "validate" else QUEUED
        async with self.rooms.db.write() as session:
            job = await transitions.move(session, self.claim, state, [NewEvent(message)])
        assert job.state not in TERMINAL
        await self.rooms.wakeup.notify(self.job.id, self.claim.attempt)
        return f"released: {job.state}"


def _how(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"


def _fault_note(fault: run_events.Fault) -> NewEvent:
    place = f"{fault.file}, line {fault.line}" if fault.line else fault.file
    return NewEvent(f"{place}: {fault.message}", level="error", data=fault.model_dump())

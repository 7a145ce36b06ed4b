"""The lifecycle: each verb is one conditional UPDATE whose row count says who won.

A worker holds a job by a :class:`Claim`. Every write it makes names the claim, and a claim that is no longer in the
row writes nothing: ``LeaseLost`` tells a worker that comes back late to stop. Leases are compared by the database's
clock only. All functions take a session of ``Database.write`` and do no other I/O; ring the queue after the commit.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import ColumnElement, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased
from sqlmodel import col

from jobs.states import CANCELLED, FAILED, QUEUED, RUNNING, TERMINAL, VALIDATING
from storage.clock import db_now
from storage.ids import new_id
from storage.tables import Event, Job

Phase = Literal["validate", "train"]


class LeaseLost(Exception):
    """Another worker, a cancel or the reaper has taken the job; stop and write nothing more."""


class IllegalTransition(ValueError):
    """The job is in a state from which this verb leads nowhere."""

    def __init__(self, verb: str, state: str) -> None:
        super().__init__(f"A job that is {state} cannot be {verb}.")
        self.state = state


@dataclass(frozen=True)
class Claim:
    """The fencing token: in force while the row has the same attempt and owner."""

    job_id: str
    attempt: int
    owner: str


@dataclass(frozen=True)
class Note:
    """An event to be."""

    message: str
    level: str = "info"
    type: str = "message"
    data: dict[str, Any] | None = None


@dataclass(frozen=True)
class Beat:
    """What a heartbeat brings back."""

    cancel: bool


_FROM: dict[Phase, str] = {"validate": VALIDATING, "train": QUEUED}


async def create(session: AsyncSession, job: Job) -> Job:
    """Insert a new job with its first event."""
    job.state, job.last_seq = VALIDATING, 1
    session.add(job)
    await session.flush()
    session.add(_event(job.id, 1, 0, Note(f"Created fine-tuning job: {job.id}")))
    return job


async def claim(session: AsyncSession, phase: Phase, worker: str, lease_seconds: float) -> tuple[Claim, Job] | None:
    """Take the next job that waits for this phase, or None. Projects with fewer running jobs come first."""
    running = aliased(Job)
    busy = (
        select(func.count())
        .select_from(running)
        .where(running.project_id == Job.project_id, running.state == RUNNING)  # type: ignore[arg-type]
        .scalar_subquery()
    )
    free = or_(col(Job.lease_until).is_(None), col(Job.lease_until) < db_now())
    chosen = (
        select(col(Job.id))
        .where(col(Job.state) == _FROM[phase], col(Job.run_after) <= db_now(), free)
        .order_by(busy, col(Job.created_at), col(Job.id))
        .limit(1)
        .with_for_update(skip_locked=True)
        .scalar_subquery()
    )
    owner = f"{worker}:{secrets.token_hex(8)}"
    values: dict[str, Any] = {"owner": owner, "lease_until": db_now() + lease_seconds}
    if phase == "train":
        values |= {"state": RUNNING, "attempt": col(Job.attempt) + 1}
        values |= {"started_at": func.coalesce(col(Job.started_at), time.time())}
    job = await _update(session, [col(Job.id) == chosen, col(Job.state) == _FROM[phase]], values)
    return (Claim(job.id, job.attempt, owner), job) if job else None


async def heartbeat(session: AsyncSession, claim: Claim, lease_seconds: float) -> Beat:
    """Renew the lease. Raises ``LeaseLost``."""
    job = await _held(session, claim, {"lease_until": db_now() + lease_seconds})
    return Beat(cancel=job.cancel_requested)


async def record(session: AsyncSession, claim: Claim, notes: Sequence[Note], **values: Any) -> Job:
    """Append events and set columns of the row. Raises ``LeaseLost``."""
    job = await _held(session, claim, {"last_seq": col(Job.last_seq) + len(notes), **values})
    first = job.last_seq - len(notes) + 1
    session.add_all(_event(job.id, first + i, claim.attempt, note) for i, note in enumerate(notes))
    return job


async def move(session: AsyncSession, claim: Claim, state: str, notes: Sequence[Note], **values: Any) -> Job:
    """Leave the job in another state and give up the claim. Raises ``LeaseLost``, also when a cancel came first."""
    if state in TERMINAL:
        values["finished_at"] = time.time()
    job = await record(session, claim, notes, state=state, owner=None, lease_until=None, **values)
    if job.cancel_requested and state != CANCELLED:
        raise LeaseLost(f"{claim.job_id} was cancelled first")
    return job


async def fail(session: AsyncSession, claim: Claim, error: dict[str, Any], notes: Sequence[Note] = ()) -> Job:
    """``error``: ``{code, message, param}``."""
    last = Note(f"The job failed: {error['message']}", level="error", data={"code": error["code"]})
    return await move(session, claim, FAILED, [*notes, last], error=error)


async def crash(session: AsyncSession, claim: Claim, error: dict[str, Any], limit: int) -> Job:
    """An abnormal end: try again after a pause, or fail once ``limit`` of them had no checkpoint between them."""
    job = await record(session, claim, [], failures=col(Job.failures) + 1)
    if job.failures >= limit:
        message = f"{error['message']} It happened {job.failures} times without progress."
        return await fail(session, claim, {**error, "message": message})
    pause = 2.0 ** (job.failures - 1)
    note = Note(f"{error['message']} Trying again.", level="warn", data={"code": error["code"]})
    again = VALIDATING if job.state == VALIDATING else QUEUED
    return await move(session, claim, again, [note], run_after=db_now() + pause)


async def cancel(session: AsyncSession, project_id: str, job_id: str) -> Job | None:
    """Cancel at once what no child works for, else ask its worker to. None: no such job in this project.

    Raises ``IllegalTransition`` on a job that has ended.
    """
    mine = [col(Job.id) == job_id, col(Job.project_id) == project_id]
    waiting = col(Job.state).in_([VALIDATING, QUEUED])
    note = Note("The job was cancelled.")
    if job := await _end(session, [*mine, waiting], CANCELLED, note):
        return job
    if job := await _update(session, [*mine, col(Job.state) == RUNNING], {"cancel_requested": True}):
        return job
    state = (await session.execute(select(col(Job.state)).where(*mine))).scalar_one_or_none()
    if state is None:
        return None
    raise IllegalTransition("cancelled", state)


async def reap(session: AsyncSession) -> list[Job]:
    """Take jobs back from workers whose lease ran out: the cancelled ones end, the others are queued again."""
    expired = [col(Job.state) == RUNNING, col(Job.lease_until) < db_now()]
    ids = (await session.execute(select(col(Job.id)).where(*expired).with_for_update(skip_locked=True))).scalars().all()
    reaped: list[Job] = []
    for job_id in ids:
        mine = [col(Job.id) == job_id, *expired]
        cancelled = await _end(
            session, [*mine, col(Job.cancel_requested).is_(True)], CANCELLED, Note("The job was cancelled.")
        )
        lost = Note("The worker was lost; the job is queued again and goes on from its last checkpoint.", level="warn")
        if job := cancelled or await _end(session, mine, QUEUED, lost):
            reaped.append(job)
    return reaped


async def waiting(session: AsyncSession) -> list[tuple[str, int]]:
    """``(job_id, attempt)`` of jobs that could be claimed now; to ring again what Redis forgot."""
    query = select(col(Job.id), col(Job.attempt)).where(
        col(Job.state).in_([VALIDATING, QUEUED]), col(Job.owner).is_(None), col(Job.run_after) <= db_now()
    )
    return [(job_id, attempt) for job_id, attempt in (await session.execute(query.limit(100))).all()]


async def _end(session: AsyncSession, conditions: list[ColumnElement[bool]], state: str, note: Note) -> Job | None:
    values: dict[str, Any] = {"state": state, "owner": None, "lease_until": None, "last_seq": col(Job.last_seq) + 1}
    if state in TERMINAL:
        values["finished_at"] = time.time()
    if state == CANCELLED:
        values["cancel_requested"] = True
    job = await _update(session, conditions, values)
    if job:
        session.add(_event(job.id, job.last_seq, job.attempt, note))
    return job


async def _held(session: AsyncSession, claim: Claim, values: dict[str, Any]) -> Job:
    token = [col(Job.id) == claim.job_id, col(Job.attempt) == claim.attempt, col(Job.owner) == claim.owner]
    job = await _update(session, token, values)
    if job is None:
        raise LeaseLost(claim.job_id)
    return job


async def _update(
    session: AsyncSession, conditions: Sequence[ColumnElement[bool]], values: dict[str, Any]
) -> Job | None:
    statement = update(Job).where(*conditions).values(**values).returning(Job)
    statement = statement.execution_options(synchronize_session=False, populate_existing=True)
    return (await session.execute(statement)).scalar_one_or_none()


def _event(job_id: str, seq: int, attempt: int, note: Note) -> Event:
    return Event(
        id=new_id("event"),
        job_id=job_id,
        seq=seq,
        attempt=attempt,
        created_at=time.time(),
        level=note.level,
        message=note.message,
        type=note.type,
        data=note.data,
    )

"""Transitions of a job: each is one conditional UPDATE, which takes effect or changes no row.

A worker holds a job by a :class:`Claim`, and every write it makes names the claim. A claim that no
longer matches the row writes nothing: ``LeaseLost`` stops a worker that comes back late. Leases are
compared by the database's clock only. Functions take a session of ``Database.write`` and do no
other I/O. Notify the wake-up channel after the commit.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import ColumnElement, Integer, case, func, literal, or_, select, true, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession
from sqlalchemy.orm import aliased
from sqlmodel import col

from jobs.lifecycle.states import CANCELLED, FAILED, PAUSED, QUEUED, RUNNING, TERMINAL, VALIDATED, VALIDATING, WAITING
from jobs.webhooks import outbox
from storage.clock import db_now
from storage.ids import new_id
from storage.tables import Event, Job, Project

Phase = Literal["validate", "train"]


class LeaseLost(Exception):
    """Another worker, a cancellation or the reaper has taken the job.

    Stop and write nothing more.
    """


class IllegalTransition(ValueError):
    """The job's state does not allow this transition."""

    def __init__(self, verb: str, state: str) -> None:
        super().__init__(f"A job that is {state} cannot be {verb}.")
        self.state = state


@dataclass(frozen=True)
class Claim:
    """Fencing token, valid while the row has the same attempt and owner."""

    job_id: str
    attempt: int
    owner: str


@dataclass(frozen=True)
class NewEvent:
    """An event to append to a job."""

    message: str
    level: str = "info"
    type: str = "message"
    data: dict[str, Any] | None = None


@dataclass(frozen=True)
class HeartbeatReply:
    """Requests that a heartbeat reads from the job's row."""

    cancel_requested: bool
    pause_requested: bool


_CLAIMABLE_STATES: dict[Phase, str] = {"validate": VALIDATING, "train": QUEUED}


def _is_claimable(states: Sequence[str]) -> list[ColumnElement[bool]]:
    is_free = or_(col(Job.lease_until).is_(None), col(Job.lease_until) < db_now())
    return [col(Job.state).in_(states), col(Job.run_after) <= db_now(), is_free]


# Built once: an idle worker runs it every other second.
_CLAIMABLE_QUERY = select(col(Job.state)).where(*_is_claimable([*_CLAIMABLE_STATES.values()])).distinct()


async def create(session: AsyncSession, job: Job) -> Job:
    """Insert a new job with its first event."""
    job.state, job.last_seq = VALIDATING, 1
    session.add(job)
    await session.flush()
    session.add(_build_event(job.id, 1, 0, NewEvent(f"Created fine-tuning job: {job.id}")))
    return job


async def find_claimable_phases(connection: AsyncConnection) -> set[Phase]:
    """Return phases for which jobs wait, regardless of project limits. Takes no lock."""
    states = set((await connection.execute(_CLAIMABLE_QUERY)).scalars())
    return {phase for phase, state in _CLAIMABLE_STATES.items() if state in states}


async def claim(
    session: AsyncSession, phase: Phase, worker: str, lease_seconds: float, max_running: int | None = None
) -> tuple[Claim, Job] | None:
    """Claim the next job that waits for this phase, or return None.

    Projects with fewer running jobs come first. No project trains more jobs at a time than its
    ``max_running_jobs``, or ``max_running`` if it has no limit.
    """
    running = aliased(Job)
    running_count = (
        select(func.count())
        .select_from(running)
        .where(running.project_id == Job.project_id, running.state == RUNNING)  # type: ignore[arg-type]
        .scalar_subquery()
    )
    own_limit = select(col(Project.max_running_jobs)).where(col(Project.id) == col(Job.project_id)).scalar_subquery()
    limit = func.coalesce(own_limit, literal(max_running, Integer()))
    has_capacity = true() if phase == "validate" else or_(limit.is_(None), running_count < limit)
    chosen = (
        select(col(Job.id))
        .where(*_is_claimable([_CLAIMABLE_STATES[phase]]), has_capacity)
        .order_by(running_count, col(Job.created_at), col(Job.id))
        .limit(1)
        .with_for_update(skip_locked=True)
    )
    job_id = (await session.execute(chosen)).scalar_one_or_none()
    if job_id is None:
        return None
    # This lock makes two workers count the running jobs of one project one after the other.
    project_id = select(col(Job.project_id)).where(col(Job.id) == job_id).scalar_subquery()
    await session.execute(select(col(Project.id)).where(col(Project.id) == project_id).with_for_update())
    owner = f"{worker}:{secrets.token_hex(8)}"
    values: dict[str, Any] = {"owner": owner, "lease_until": db_now() + lease_seconds}
    if phase == "train":
        values |= {"state": RUNNING, "attempt": col(Job.attempt) + 1}
        values |= {"started_at": func.coalesce(col(Job.started_at), time.time())}
    job = await update_where(
        session, [col(Job.id) == job_id, col(Job.state) == _CLAIMABLE_STATES[phase], has_capacity], values
    )
    return (Claim(job.id, job.attempt, owner), job) if job else None


async def heartbeat(session: AsyncSession, claim: Claim, lease_seconds: float) -> HeartbeatReply:
    """Renew the lease. Raises ``LeaseLost``."""
    job = await _update_claimed(session, claim, {"lease_until": db_now() + lease_seconds})
    return HeartbeatReply(job.cancel_requested, job.pause_requested)


async def append_events(session: AsyncSession, claim: Claim, events: Sequence[NewEvent], **values: Any) -> Job:
    """Append events and set columns of the row. Raises ``LeaseLost``."""
    job = await _update_claimed(session, claim, {"last_seq": col(Job.last_seq) + len(events), **values})
    first = job.last_seq - len(events) + 1
    session.add_all(_build_event(job.id, first + i, claim.attempt, event) for i, event in enumerate(events))
    return job


async def transition(session: AsyncSession, claim: Claim, state: str, events: Sequence[NewEvent], **values: Any) -> Job:
    """Move the job to another state and release the claim.

    A job with a requested pause moves to ``paused`` instead of ``queued``. Raises ``LeaseLost``,
    also if the job was cancelled first.
    """
    job = await append_events(session, claim, events, **release_values(state), **values)
    if job.cancel_requested and state != CANCELLED:
        raise LeaseLost(f"{claim.job_id} was cancelled first")
    return job


async def finish_validation(session: AsyncSession, claim: Claim, event: NewEvent, **values: Any) -> Job:
    """Queue a valid job, or move it to ``validated`` until it is started. Raises ``LeaseLost``."""
    state = case((col(Job.auto_start), QUEUED), else_=VALIDATED)
    return await append_events(session, claim, [event], **{**release_values(VALIDATED), "state": state}, **values)


async def fail(session: AsyncSession, claim: Claim, error: dict[str, Any], events: Sequence[NewEvent] = ()) -> Job:
    """Move the job to ``failed``. ``error`` is ``{code, message, param}``. Raises ``LeaseLost``."""
    failure = NewEvent(f"The job failed: {error['message']}", level="error", data={"code": error["code"]})
    return await transition(session, claim, FAILED, [*events, failure], error=error)


async def crash(session: AsyncSession, claim: Claim, error: dict[str, Any], max_failures: int) -> Job:
    """Retry the job later, or fail it after ``max_failures`` abnormal ends without a checkpoint."""
    job = await append_events(session, claim, [], failures=col(Job.failures) + 1)
    if job.failures >= max_failures:
        message = f"{error['message']} This happened {job.failures} times without progress."
        return await fail(session, claim, {**error, "message": message})
    delay = 2.0 ** (job.failures - 1)
    retry = NewEvent(f"{error['message']} The job will be retried.", level="warn", data={"code": error["code"]})
    retry_state = VALIDATING if job.state == VALIDATING else QUEUED
    return await transition(session, claim, retry_state, [retry], run_after=db_now() + delay)


async def cancel(session: AsyncSession, project_id: str, job_id: str) -> Job | None:
    """Cancel a waiting job immediately, or have the worker of a running job cancel it.

    Return None if there is no such job. Raises ``IllegalTransition`` if the job has ended.
    """
    is_job = [col(Job.id) == job_id, col(Job.project_id) == project_id]
    is_waiting = col(Job.state).in_([*WAITING, PAUSED])
    event = NewEvent("The job was cancelled.")
    job = await get_for_update(session, project_id, job_id)
    if job is None:
        return None
    if cancelled := await update_with_event(session, [*is_job, is_waiting], release_values(CANCELLED), event):
        return cancelled
    if running := await update_where(session, [*is_job, col(Job.state) == RUNNING], {"cancel_requested": True}):
        return running
    raise IllegalTransition("cancelled", job.state)


async def get_for_update(session: AsyncSession, project_id: str, job_id: str) -> Job | None:
    """Return a project's job, locked until the transaction ends, or None if it does not exist."""
    query = select(Job).where(col(Job.id) == job_id, col(Job.project_id) == project_id).with_for_update()
    return (await session.execute(query)).scalar_one_or_none()


async def reap(session: AsyncSession) -> list[Job]:
    """Take jobs back from workers whose lease expired. Cancelled jobs end, others wait again."""
    expired = [col(Job.state) == RUNNING, col(Job.lease_until) < db_now()]
    ids = (await session.execute(select(col(Job.id)).where(*expired).with_for_update(skip_locked=True))).scalars().all()
    reaped: list[Job] = []
    for job_id in ids:
        is_expired_job = [col(Job.id) == job_id, *expired]
        cancelled = await update_with_event(
            session,
            [*is_expired_job, col(Job.cancel_requested).is_(True)],
            release_values(CANCELLED),
            NewEvent("The job was cancelled."),
        )
        lost = NewEvent("The worker was lost. The job will resume from its last checkpoint.", level="warn")
        if job := cancelled or await update_with_event(session, is_expired_job, release_values(QUEUED), lost):
            reaped.append(job)
    return reaped


async def list_claimable_jobs(session: AsyncSession) -> list[tuple[str, int]]:
    """Return ``(job_id, attempt)`` of jobs that can be claimed now, to repeat lost wake-ups."""
    query = select(col(Job.id), col(Job.attempt)).where(
        col(Job.state).in_([VALIDATING, QUEUED]), col(Job.owner).is_(None), col(Job.run_after) <= db_now()
    )
    return [(job_id, attempt) for job_id, attempt in (await session.execute(query.limit(100))).all()]


def release_values(state: str) -> dict[str, Any]:
    """Return the column values that move a job to ``state`` and release its lease."""
    values: dict[str, Any] = {"state": state, "owner": None, "lease_until": None, "pause_requested": False}
    if state in TERMINAL:
        values["finished_at"] = time.time()
    if state == CANCELLED:
        values["cancel_requested"] = True
    if state == QUEUED:
        # Evaluated in the UPDATE, so that a pause requested just before the end of an attempt
        # counts.
        values |= {"state": case((col(Job.pause_requested), PAUSED), else_=QUEUED), "resume_state": QUEUED}
    return values


async def update_with_event(
    session: AsyncSession, conditions: Sequence[ColumnElement[bool]], values: dict[str, Any], event: NewEvent
) -> Job | None:
    """Run :func:`update_where` and append an event. Return None if the conditions do not hold."""
    job = await update_where(session, conditions, {**values, "last_seq": col(Job.last_seq) + 1})
    if job:
        session.add(_build_event(job.id, job.last_seq, job.attempt, event))
    return job


async def _update_claimed(session: AsyncSession, claim: Claim, values: dict[str, Any]) -> Job:
    conditions = [col(Job.id) == claim.job_id, col(Job.attempt) == claim.attempt, col(Job.owner) == claim.owner]
    job = await update_where(session, conditions, values)
    if job is None:
        raise LeaseLost(claim.job_id)
    return job


async def update_where(
    session: AsyncSession, conditions: Sequence[ColumnElement[bool]], values: dict[str, Any]
) -> Job | None:
    """Run one conditional UPDATE. Return the updated row, or None if the conditions do not hold."""
    statement = update(Job).where(*conditions).values(**values).returning(Job)
    statement = statement.execution_options(synchronize_session=False, populate_existing=True)
    job = (await session.execute(statement)).scalar_one_or_none()
    if job and "state" in values and job.state in TERMINAL:
        await outbox.enqueue(session, job.project_id, f"fine_tuning.job.{job.state}", job.id)
    return job


def _build_event(job_id: str, seq: int, attempt: int, new_event: NewEvent) -> Event:
    return Event(
        id=new_id("event"),
        job_id=job_id,
        seq=seq,
        attempt=attempt,
        created_at=time.time(),
        level=new_event.level,
        message=new_event.message,
        type=new_event.type,
        data=new_event.data,
    )

"""The lifecycle: each verb is one conditional UPDATE whose row count says who won.

A worker holds a job by a :class:`Claim`. Every write it makes names the claim, and a claim that is no longer in the
row writes nothing: ``LeaseLost`` tells a worker that comes back late to stop. Leases are compared by the database's
clock only. Functions take a session of ``Database.write`` and do no other I/O; ring the queue after the commit.
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
class NewEvent:
    """An event to be."""

    message: str
    level: str = "info"
    type: str = "message"
    data: dict[str, Any] | None = None


@dataclass(frozen=True)
class HeartbeatReply:
    """What a heartbeat brings back."""

    cancel_requested: bool
    pause_requested: bool


_CLAIMABLE_STATES: dict[Phase, str] = {"validate": VALIDATING, "train": QUEUED}


def _is_claimable(states: Sequence[str]) -> list[ColumnElement[bool]]:
    free = or_(col(Job.lease_until).is_(None), col(Job.lease_until) < db_now())
    return [col(Job.state).in_(states), col(Job.run_after) <= db_now(), free]


# Put together once: an idle worker asks every other second.
_CLAIMABLE_QUERY = select(col(Job.state)).where(*_is_claimable([*_CLAIMABLE_STATES.values()])).distinct()


async def create(session: AsyncSession, job: Job) -> Job:
    """Insert a new job with its first event."""
    job.state, job.last_seq = VALIDATING, 1
    session.add(job)
    await session.flush()
    session.add(_build_event(job.id, 1, 0, NewEvent(f"Created fine-tuning job: {job.id}")))
    return job


async def find_claimable_phases(connection: AsyncConnection) -> set[Phase]:
    """The phases for which a job waits, whether or not its project has room. It takes no lock: look, then claim."""
    states = set((await connection.execute(_CLAIMABLE_QUERY)).scalars())
    return {phase for phase, state in _CLAIMABLE_STATES.items() if state in states}


async def claim(
    session: AsyncSession, phase: Phase, worker: str, lease_seconds: float, max_running: int | None = None
) -> tuple[Claim, Job] | None:
    """Take the next job that waits for this phase, or None. Projects with fewer running jobs come first.

    No project trains more than its ``max_running_jobs``, or ``max_running`` where it has none.
    """
    running = aliased(Job)
    busy = (
        select(func.count())
        .select_from(running)
        .where(running.project_id == Job.project_id, running.state == RUNNING)  # type: ignore[arg-type]
        .scalar_subquery()
    )
    own = select(col(Project.max_running_jobs)).where(col(Project.id) == col(Job.project_id)).scalar_subquery()
    most = func.coalesce(own, literal(max_running, Integer()))
    room = true() if phase == "validate" else or_(most.is_(None), busy < most)
    chosen = (
        select(col(Job.id))
        .where(*_is_claimable([_CLAIMABLE_STATES[phase]]), room)
        .order_by(busy, col(Job.created_at), col(Job.id))
        .limit(1)
        .with_for_update(skip_locked=True)
    )
    job_id = (await session.execute(chosen)).scalar_one_or_none()
    if job_id is None:
        return None
    # Two workers that claim two jobs of one project see one after the other how many it trains.
    project_id = select(col(Job.project_id)).where(col(Job.id) == job_id).scalar_subquery()
    await session.execute(select(col(Project.id)).where(col(Project.id) == project_id).with_for_update())
    owner = f"{worker}:{secrets.token_hex(8)}"
    values: dict[str, Any] = {"owner": owner, "lease_until": db_now() + lease_seconds}
    if phase == "train":
        values |= {"state": RUNNING, "attempt": col(Job.attempt) + 1}
        values |= {"started_at": func.coalesce(col(Job.started_at), time.time())}
    job = await update_where(session, [col(Job.id) == job_id, col(Job.state) == _CLAIMABLE_STATES[phase], room], values)
    return (Claim(job.id, job.attempt, owner), job) if job else None


async def heartbeat(session: AsyncSession, claim: Claim, lease_seconds: float) -> HeartbeatReply:
    """Renew the lease. Raises ``LeaseLost``."""
    job = await _update_claimed(session, claim, {"lease_until": db_now() + lease_seconds})
    return HeartbeatReply(job.cancel_requested, job.pause_requested)


async def append_events(session: AsyncSession, claim: Claim, events: Sequence[NewEvent], **values: Any) -> Job:
    """Append events and set columns of the row. Raises ``LeaseLost``."""
    job = await _update_claimed(session, claim, {"last_seq": col(Job.last_seq) + len(events), **values})
    first = job.last_seq - len(events) + 1
    session.add_all(_build_event(job.id, first + i, claim.attempt, note) for i, note in enumerate(events))
    return job


async def transition(session: AsyncSession, claim: Claim, state: str, events: Sequence[NewEvent], **values: Any) -> Job:
    """Leave the job in another state and give up the claim. Raises ``LeaseLost``, also when a cancel came first.

    One that is to be paused waits in ``paused`` instead of ``queued``.
    """
    job = await append_events(session, claim, events, **release_values(state), **values)
    if job.cancel_requested and state != CANCELLED:
        raise LeaseLost(f"{claim.job_id} was cancelled first")
    return job


async def finish_validation(session: AsyncSession, claim: Claim, event: NewEvent, **values: Any) -> Job:
    """Every row is good: on to the queue, or to where the job waits to be started. Raises ``LeaseLost``."""
    ready = case((col(Job.auto_start), QUEUED), else_=VALIDATED)
    return await append_events(session, claim, [event], **{**release_values(VALIDATED), "state": ready}, **values)


async def fail(session: AsyncSession, claim: Claim, error: dict[str, Any], events: Sequence[NewEvent] = ()) -> Job:
    """``error``: ``{code, message, param}``."""
    last = NewEvent(f"The job failed: {error['message']}", level="error", data={"code": error["code"]})
    return await transition(session, claim, FAILED, [*events, last], error=error)


async def crash(session: AsyncSession, claim: Claim, error: dict[str, Any], max_failures: int) -> Job:
    """An abnormal end: try again after a pause, or fail once ``limit`` of them had no checkpoint between them."""
    job = await append_events(session, claim, [], failures=col(Job.failures) + 1)
    if job.failures >= max_failures:
        message = f"{error['message']} It happened {job.failures} times without progress."
        return await fail(session, claim, {**error, "message": message})
    pause = 2.0 ** (job.failures - 1)
    note = NewEvent(f"{error['message']} Trying again.", level="warn", data={"code": error["code"]})
    again = VALIDATING if job.state == VALIDATING else QUEUED
    return await transition(session, claim, again, [note], run_after=db_now() + pause)


async def cancel(session: AsyncSession, project_id: str, job_id: str) -> Job | None:
    """Cancel at once what no child works for, else ask its worker to. None: no such job in this project.

    Raises ``IllegalTransition`` on a job that has ended.
    """
    mine = [col(Job.id) == job_id, col(Job.project_id) == project_id]
    waiting = col(Job.state).in_([*WAITING, PAUSED])
    note = NewEvent("The job was cancelled.")
    job = await get_for_update(session, project_id, job_id)
    if job is None:
        return None
    if cancelled := await update_with_event(session, [*mine, waiting], release_values(CANCELLED), note):
        return cancelled
    if asked := await update_where(session, [*mine, col(Job.state) == RUNNING], {"cancel_requested": True}):
        return asked
    raise IllegalTransition("cancelled", job.state)


async def get_for_update(session: AsyncSession, project_id: str, job_id: str) -> Job | None:
    """A project's job, which nobody else changes until the transaction ends. None: no such job in this project."""
    query = select(Job).where(col(Job.id) == job_id, col(Job.project_id) == project_id).with_for_update()
    return (await session.execute(query)).scalar_one_or_none()


async def reap(session: AsyncSession) -> list[Job]:
    """Take jobs back from workers whose lease ran out: the cancelled ones end, the others wait again."""
    expired = [col(Job.state) == RUNNING, col(Job.lease_until) < db_now()]
    ids = (await session.execute(select(col(Job.id)).where(*expired).with_for_update(skip_locked=True))).scalars().all()
    reaped: list[Job] = []
    for job_id in ids:
        mine = [col(Job.id) == job_id, *expired]
        cancelled = await update_with_event(
            session,
            [*mine, col(Job.cancel_requested).is_(True)],
            release_values(CANCELLED),
            NewEvent("The job was cancelled."),
        )
        lost = NewEvent("The worker was lost; the job goes on from its last checkpoint.", level="warn")
        if job := cancelled or await update_with_event(session, mine, release_values(QUEUED), lost):
            reaped.append(job)
    return reaped


async def list_claimable_jobs(session: AsyncSession) -> list[tuple[str, int]]:
    """``(job_id, attempt)`` of jobs that could be claimed now; to ring again what Redis forgot."""
    query = select(col(Job.id), col(Job.attempt)).where(
        col(Job.state).in_([VALIDATING, QUEUED]), col(Job.owner).is_(None), col(Job.run_after) <= db_now()
    )
    return [(job_id, attempt) for job_id, attempt in (await session.execute(query.limit(100))).all()]


def release_values(state: str) -> dict[str, Any]:
    """What a job's row gets that goes to ``state`` and is nobody's then."""
    values: dict[str, Any] = {"state": state, "owner": None, "lease_until": None, "pause_requested": False}
    if state in TERMINAL:
        values["finished_at"] = time.time()
    if state == CANCELLED:
        values["cancel_requested"] = True
    if state == QUEUED:
        # Decided by the row as it is then: whoever asks for a pause is heard until the very end of an attempt.
        values |= {"state": case((col(Job.pause_requested), PAUSED), else_=QUEUED), "resume_state": QUEUED}
    return values


async def update_with_event(
    session: AsyncSession, conditions: Sequence[ColumnElement[bool]], values: dict[str, Any], event: NewEvent
) -> Job | None:
    """:func:`change`, with an event. None where the conditions do not hold."""
    job = await update_where(session, conditions, {**values, "last_seq": col(Job.last_seq) + 1})
    if job:
        session.add(_build_event(job.id, job.last_seq, job.attempt, event))
    return job


async def _update_claimed(session: AsyncSession, claim: Claim, values: dict[str, Any]) -> Job:
    token = [col(Job.id) == claim.job_id, col(Job.attempt) == claim.attempt, col(Job.owner) == claim.owner]
    job = await update_where(session, token, values)
    if job is None:
        raise LeaseLost(claim.job_id)
    return job


async def update_where(
    session: AsyncSession, conditions: Sequence[ColumnElement[bool]], values: dict[str, Any]
) -> Job | None:
    """One conditional UPDATE; the row after it, or None where the conditions do not hold."""
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

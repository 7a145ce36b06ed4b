"""Pause, resume and start of a job.

Each function takes a session of ``Database.write`` and returns the updated job, or None if the
project has no such job. It raises ``IllegalTransition`` for a job that has ended. The functions are
idempotent, so a client that lost a response can repeat its request. Notify the wake-up channel
after the commit.
"""

from __future__ import annotations

from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from jobs.lifecycle import transitions
from jobs.lifecycle.states import PAUSED, QUEUED, RUNNING, TERMINAL, VALIDATED, WAITING, to_wire_state
from jobs.lifecycle.transitions import IllegalTransition, NewEvent
from storage.tables import Job


async def pause(session: AsyncSession, project_id: str, job_id: str) -> Job | None:
    """Pause a waiting job immediately.

    A running job saves after its current step and frees its slot.
    """
    job = await transitions.get_for_update(session, project_id, job_id)
    if job is None or job.state == PAUSED:
        return job
    if job.state in TERMINAL or job.cancel_requested:
        raise IllegalTransition("paused", to_wire_state(job))
    is_job = [col(Job.id) == job_id]
    values = {**transitions.release_values(PAUSED), "resume_state": col(Job.state)}
    paused = await transitions.update_with_event(
        session, [*is_job, col(Job.state).in_(WAITING)], values, NewEvent("The job was paused.")
    )
    return paused or await transitions.update_where(
        session, [*is_job, col(Job.state) == RUNNING], {"pause_requested": True}
    )


async def resume(session: AsyncSession, project_id: str, job_id: str) -> Job | None:
    """Return a paused job to its earlier state, or to the queue if it was ``running``.

    A job that is still pausing continues as soon as possible.
    """
    job = await transitions.get_for_update(session, project_id, job_id)
    if job is None:
        return None
    if job.state in TERMINAL:
        raise IllegalTransition("resumed", job.state)
    is_job = [col(Job.id) == job_id]
    values = {"state": col(Job.resume_state)}
    resumed = await transitions.update_with_event(
        session, [*is_job, col(Job.state) == PAUSED], values, NewEvent("The job was resumed.")
    )
    return resumed or await transitions.update_where(session, is_job, {"pause_requested": False})


async def start(session: AsyncSession, project_id: str, job_id: str) -> Job | None:
    """Queue a validated job. A job that is not validated yet starts without waiting once it is.

    A paused job stays paused.
    """
    job = await transitions.get_for_update(session, project_id, job_id)
    if job is None:
        return None
    if job.state in TERMINAL:
        raise IllegalTransition("started", job.state)
    is_job = [col(Job.id) == job_id]
    values = {"state": QUEUED, "auto_start": True}
    if queued := await transitions.update_with_event(
        session, [*is_job, col(Job.state) == VALIDATED], values, NewEvent("The job was started.")
    ):
        return queued
    is_paused = [*is_job, col(Job.state) == PAUSED, col(Job.resume_state) == VALIDATED]
    paused = await transitions.update_where(session, is_paused, {"resume_state": QUEUED, "auto_start": True})
    return paused or await transitions.update_where(session, is_job, {"auto_start": True})

"""A job that waits for a person: paused and let go on, or validated and not yet started.

Each verb takes a session of ``Database.write``, answers the job as it is then, None where the project has no such job,
and raises ``IllegalTransition`` on one that has ended. What is so already stays so, without an error: a client that
lost the first answer asks again. Ring the queue after the commit.
"""

from __future__ import annotations

from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from jobs.lifecycle import transitions
from jobs.lifecycle.states import PAUSED, QUEUED, RUNNING, TERMINAL, VALIDATED, WAITING, to_wire_state
from jobs.lifecycle.transitions import IllegalTransition, NewEvent
from storage.tables import Job


async def pause(session: AsyncSession, project_id: str, job_id: str) -> Job | None:
    """At once what waits; a running job saves at its next step and gives its place to others."""
    job = await transitions.get_for_update(session, project_id, job_id)
    if job is None or job.state == PAUSED:
        return job
    if job.state in TERMINAL or job.cancel_requested:
        raise IllegalTransition("paused", to_wire_state(job))
    mine = [col(Job.id) == job_id]
    now = {**transitions.release_values(PAUSED), "resume_state": col(Job.state)}
    paused = await transitions.update_with_event(
        session, [*mine, col(Job.state).in_(WAITING)], now, NewEvent("The job was paused.")
    )
    return paused or await transitions.update_where(
        session, [*mine, col(Job.state) == RUNNING], {"pause_requested": True}
    )


async def resume(session: AsyncSession, project_id: str, job_id: str) -> Job | None:
    """Back to where it was, from ``running`` to the queue. One that is still pausing goes on as soon as it can."""
    job = await transitions.get_for_update(session, project_id, job_id)
    if job is None:
        return None
    if job.state in TERMINAL:
        raise IllegalTransition("resumed", job.state)
    mine = [col(Job.id) == job_id]
    back = {"state": col(Job.resume_state)}
    resumed = await transitions.update_with_event(
        session, [*mine, col(Job.state) == PAUSED], back, NewEvent("The job goes on.")
    )
    return resumed or await transitions.update_where(session, mine, {"pause_requested": False})


async def start(session: AsyncSession, project_id: str, job_id: str) -> Job | None:
    """To the queue, where its files are validated; else it will not wait once they are. A paused job stays paused."""
    job = await transitions.get_for_update(session, project_id, job_id)
    if job is None:
        return None
    if job.state in TERMINAL:
        raise IllegalTransition("started", job.state)
    mine = [col(Job.id) == job_id]
    started = {"state": QUEUED, "auto_start": True}
    if queued := await transitions.update_with_event(
        session, [*mine, col(Job.state) == VALIDATED], started, NewEvent("The job was started.")
    ):
        return queued
    validated = [*mine, col(Job.state) == PAUSED, col(Job.resume_state) == VALIDATED]
    later = await transitions.update_where(session, validated, {"resume_state": QUEUED, "auto_start": True})
    return later or await transitions.update_where(session, mine, {"auto_start": True})

"""What can be done with a job that there is: cancelled, paused, let go on, started, made once more."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from fastapi import APIRouter
from sqlalchemy.ext.asyncio import AsyncSession

from api.deps import OnceDep, PrincipalDep, RoomsDep
from api.errors import documented
from api.http.strict_json import StrictRoute
from api.schemas.fine_tuning.jobs import CloneIn, JobOut
from api.schemas.serializers import job_out
from api.services.job_creation import cloned, make_job
from api.services.job_queries import no_such_job, owned_job
from jobs.lifecycle import pause, transitions
from jobs.resources import Resources
from storage.access.audit import audit
from storage.access.keys import Principal
from storage.tables import Job

router = APIRouter(
    prefix="/fine_tuning/jobs/{job_id}", tags=["fine-tuning"], route_class=StrictRoute, responses=documented(404, 413)
)

Verb = Callable[[AsyncSession, str, str], Awaitable[Job | None]]


@router.post("/cancel")
async def cancel_fine_tuning_job(job_id: str, rooms: RoomsDep, principal: PrincipalDep) -> JobOut:
    """Cancel a job: at once while it waits, within seconds while it runs. A job that has ended is a 400."""
    job = await _done(transitions.cancel, "cancelled", rooms, principal, job_id)
    return job_out(job, principal.organization_id)


@router.post("/pause")
async def pause_fine_tuning_job(job_id: str, rooms: RoomsDep, principal: PrincipalDep) -> JobOut:
    """Pause a job: at once while it waits; while it runs it saves at its next step and gives its place to others. A job
    that is paused already is answered as it is, one that has ended is a 400."""
    job = await _done(pause.pause, "paused", rooms, principal, job_id)
    return job_out(job, principal.organization_id)


@router.post("/resume")
async def resume_fine_tuning_job(job_id: str, rooms: RoomsDep, principal: PrincipalDep) -> JobOut:
    """Let a paused job go on from where it was, in the order of the queue. One that is not paused is answered as it is,
    one that has ended is a 400."""
    job = await _done(pause.resume, "resumed", rooms, principal, job_id)
    await rooms.wakeup.notify(job.id, job.attempt)
    return job_out(job, principal.organization_id)


@router.post("/start")
async def start_fine_tuning_job(job_id: str, rooms: RoomsDep, principal: PrincipalDep) -> JobOut:
    """Start a job that was made with ``auto_start: false``: at once where its files are validated, else as soon as they
    are. One that was started is answered as it is, one that has ended is a 400."""
    job = await _done(pause.start, "started", rooms, principal, job_id)
    await rooms.wakeup.notify(job.id, job.attempt)
    return job_out(job, principal.organization_id)


@router.post("/clone")
async def clone_fine_tuning_job(
    job_id: str, rooms: RoomsDep, principal: PrincipalDep, once: OnceDep, body: CloneIn | None = None
) -> JobOut:
    """Make a job as this one was made, its seed included, but for the fields that are sent."""
    async with rooms.db.read() as session:
        source = await owned_job(session, principal.project_id, job_id)
    return await make_job(rooms, principal, cloned(source, body or CloneIn()), once)


async def _done(verb: Verb, done: str, rooms: Resources, principal: Principal, job_id: str) -> Job:
    async with rooms.db.write() as session:
        job = await verb(session, principal.project_id, job_id)
        if job is None:
            raise no_such_job()
        await audit(session, principal, f"fine_tuning.job.{done}", job_id)
    return job

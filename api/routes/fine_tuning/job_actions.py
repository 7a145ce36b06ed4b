"""Routes that cancel, pause, resume, start or clone a job."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from fastapi import APIRouter
from sqlalchemy.ext.asyncio import AsyncSession

from api.deps import IdempotencyDep, PrincipalDep, ResourcesDep
from api.errors import error_responses
from api.http.strict_json import StrictRoute
from api.schemas.fine_tuning.jobs import CloneIn, JobOut
from api.schemas.serializers import to_job_out
from api.services.job_creation import clone_request, create_job
from api.services.job_queries import get_job_or_404, job_not_found
from jobs.lifecycle import pause, transitions
from jobs.resources import Resources
from storage.access.audit import audit
from storage.access.keys import Principal
from storage.tables import Job

router = APIRouter(
    prefix="/fine_tuning/jobs/{job_id}",
    tags=["fine-tuning"],
    route_class=StrictRoute,
    responses=error_responses(404, 413),
)

Transition = Callable[[AsyncSession, str, str], Awaitable[Job | None]]


@router.post("/cancel")
async def cancel_fine_tuning_job(job_id: str, resources: ResourcesDep, principal: PrincipalDep) -> JobOut:
    """Cancel a job: immediately while it waits, within seconds while it runs.

    If the job has ended, the response is 400.
    """
    job = await _apply_transition(transitions.cancel, "cancelled", resources, principal, job_id)
    return to_job_out(job, principal.organization_id)


@router.post("/pause")
async def pause_fine_tuning_job(job_id: str, resources: ResourcesDep, principal: PrincipalDep) -> JobOut:
    """Pause a job: immediately while it waits, or after its next step while it runs.

    A running job saves its state and frees its worker. A paused job is returned unchanged. If the
    job has ended, the response is 400.
    """
    job = await _apply_transition(pause.pause, "paused", resources, principal, job_id)
    return to_job_out(job, principal.organization_id)


@router.post("/resume")
async def resume_fine_tuning_job(job_id: str, resources: ResourcesDep, principal: PrincipalDep) -> JobOut:
    """Resume a paused job where it stopped, in the order of the queue.

    A job that is not paused is returned unchanged. If the job has ended, the response is 400.
    """
    job = await _apply_transition(pause.resume, "resumed", resources, principal, job_id)
    await resources.wakeup.notify(job.id, job.attempt)
    return to_job_out(job, principal.organization_id)


@router.post("/start")
async def start_fine_tuning_job(job_id: str, resources: ResourcesDep, principal: PrincipalDep) -> JobOut:
    """Start a job that was created with ``auto_start: false``, as soon as its files are validated.

    A job that was already started is returned unchanged. If the job has ended, the response is 400.
    """
    job = await _apply_transition(pause.start, "started", resources, principal, job_id)
    await resources.wakeup.notify(job.id, job.attempt)
    return to_job_out(job, principal.organization_id)


@router.post("/clone")
async def clone_fine_tuning_job(
    job_id: str, resources: ResourcesDep, principal: PrincipalDep, recorder: IdempotencyDep, body: CloneIn | None = None
) -> JobOut:
    """Create a job from the request of this job, including its seed, with the changes that are
    sent."""
    async with resources.db.read() as session:
        source = await get_job_or_404(session, principal.project_id, job_id)
    return await create_job(resources, principal, clone_request(source, body or CloneIn()), recorder)


async def _apply_transition(
    transition: Transition, action: str, resources: Resources, principal: Principal, job_id: str
) -> Job:
    async with resources.db.write() as session:
        job = await transition(session, principal.project_id, job_id)
        if job is None:
            raise job_not_found()
        await audit(session, principal, f"fine_tuning.job.{action}", job_id)
    return job

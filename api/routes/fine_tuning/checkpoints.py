"""Routes that change or delete a job's checkpoints."""

from __future__ import annotations

import time
from collections.abc import Sequence

from fastapi import APIRouter
from sqlalchemy import ColumnElement, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from api.deps import PrincipalDep, ResourcesDep
from api.errors import InvalidRequest, NotFound, error_responses
from api.http.pagination import ListOut, to_list
from api.http.strict_json import StrictRoute
from api.schemas.fine_tuning.checkpoints import CheckpointDeleted, CheckpointSelectionIn, CheckpointUpdateIn
from api.schemas.fine_tuning.jobs import CheckpointOut
from api.schemas.serializers import to_checkpoint_out
from api.services.job_queries import job_not_found
from jobs.resources import Resources
from jobs.retention import checkpoints
from jobs.retention.checkpoints import OrphanedBlobs
from storage.access.audit import audit
from storage.access.keys import Principal
from storage.tables import Checkpoint, Job

router = APIRouter(
    prefix="/fine_tuning/jobs/{job_id}",
    tags=["fine-tuning"],
    route_class=StrictRoute,
    responses=error_responses(404, 413),
)


@router.post("/checkpoints/{checkpoint_id}")
async def update_checkpoint(
    job_id: str, checkpoint_id: str, body: CheckpointUpdateIn, resources: ResourcesDep, principal: PrincipalDep
) -> CheckpointOut:
    """Set the lifetime of a checkpoint from now on. With null, it does not expire."""
    async with resources.db.write() as session:
        job = await _lock_job_or_404(session, principal.project_id, job_id)
        [checkpoint] = await _get_checkpoints_or_404(session, job, [checkpoint_id])
        checkpoint.expires_at = None if body.ttl_seconds is None else time.time() + body.ttl_seconds
        out = to_checkpoint_out(job, checkpoint)
        await audit(session, principal, "checkpoint.updated", checkpoint_id, detail={"ttl_seconds": body.ttl_seconds})
    return out


@router.delete("/checkpoints/{checkpoint_id}")
async def delete_checkpoint(
    job_id: str, checkpoint_id: str, resources: ResourcesDep, principal: PrincipalDep
) -> CheckpointDeleted:
    """Delete a checkpoint and its bytes.

    If an unfinished job continues from it, the response is 400.
    """
    [deleted] = await _delete_selected(resources, principal, job_id, CheckpointSelectionIn(ids=[checkpoint_id]))
    return deleted


@router.post("/checkpoints:delete")
async def delete_checkpoints(
    job_id: str, body: CheckpointSelectionIn, resources: ResourcesDep, principal: PrincipalDep
) -> ListOut[CheckpointDeleted]:
    """Delete several checkpoints and their bytes.

    ``ids`` deletes either all of these checkpoints or none. ``older_than_step`` deletes the
    checkpoints of earlier steps, except those that unfinished jobs continue from.
    """
    return to_list(await _delete_selected(resources, principal, job_id, body), has_more=False)


async def _delete_selected(
    resources: Resources, principal: Principal, job_id: str, body: CheckpointSelectionIn
) -> Sequence[CheckpointDeleted]:
    orphaned_blobs = OrphanedBlobs()
    async with resources.db.write() as session:
        job = await _lock_job_or_404(session, principal.project_id, job_id)
        if body.ids is not None:
            selected = await _get_checkpoints_or_404(session, job, body.ids)
            await _check_unused(session, selected)
        else:
            selected = await _load_checkpoints(
                session, job, col(Checkpoint.step) < body.older_than_step, ~checkpoints.in_use()
            )
        await checkpoints.delete_checkpoints(session, job, selected, orphaned_blobs)
        for checkpoint in selected:
            await audit(session, principal, "checkpoint.deleted", checkpoint.id)
    await checkpoints.delete_orphaned_blobs(resources, orphaned_blobs)
    return [CheckpointDeleted(id=checkpoint.id) for checkpoint in selected]


async def _lock_job_or_404(session: AsyncSession, project_id: str, job_id: str) -> Job:
    """Return the job and lock its row, because deletion differs for running and ended jobs.

    Raises ``NotFound``.
    """
    query = select(Job).where(col(Job.id) == job_id, col(Job.project_id) == project_id).with_for_update()
    job = (await session.execute(query)).scalar_one_or_none()
    if job is None:
        raise job_not_found()
    return job


async def _load_checkpoints(session: AsyncSession, job: Job, *conditions: ColumnElement[bool]) -> Sequence[Checkpoint]:
    query = select(Checkpoint).where(col(Checkpoint.job_id) == job.id, *checkpoints.is_published(), *conditions)
    return (await session.execute(query.order_by(col(Checkpoint.step)))).scalars().all()


async def _get_checkpoints_or_404(session: AsyncSession, job: Job, ids: Sequence[str]) -> Sequence[Checkpoint]:
    """Return the checkpoints in the order of ``ids``. Raises ``NotFound``."""
    checkpoints_by_id = {
        checkpoint.id: checkpoint for checkpoint in await _load_checkpoints(session, job, col(Checkpoint.id).in_(ids))
    }
    for checkpoint_id in ids:
        if checkpoint_id not in checkpoints_by_id:
            raise NotFound("The job has no such checkpoint.", param="checkpoint_id", code="checkpoint_not_found")
    return [checkpoints_by_id[checkpoint_id] for checkpoint_id in dict.fromkeys(ids)]


async def _check_unused(session: AsyncSession, selected: Sequence[Checkpoint]) -> None:
    query = select(col(Checkpoint.id)).where(
        col(Checkpoint.id).in_([checkpoint.id for checkpoint in selected]), checkpoints.in_use()
    )
    used_id = (await session.execute(query.limit(1))).scalar_one_or_none()
    if used_id is not None:
        raise InvalidRequest(
            f"An unfinished job continues from the checkpoint {used_id}; wait until it ends, or cancel it.",
            param="checkpoint_id",
            code="checkpoint_in_use",
        )

"""How long a job's checkpoints stay."""

from __future__ import annotations

import time
from collections.abc import Sequence

from fastapi import APIRouter
from sqlalchemy import ColumnElement, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from api.deps import PrincipalDep, RoomsDep
from api.errors import InvalidRequest, NotFound, documented
from api.http.pagination import ListOut, listed
from api.http.strict_json import StrictRoute
from api.schemas.fine_tuning.checkpoints import CheckpointChange, CheckpointDeleted, CheckpointsChosen
from api.schemas.fine_tuning.jobs import CheckpointOut
from api.schemas.serializers import checkpoint_out
from api.services.job_queries import no_such_job
from jobs.resources import Resources
from jobs.retention import checkpoints
from jobs.retention.checkpoints import Leftovers
from storage.access.audit import audit
from storage.access.keys import Principal
from storage.tables import Checkpoint, Job

router = APIRouter(
    prefix="/fine_tuning/jobs/{job_id}", tags=["fine-tuning"], route_class=StrictRoute, responses=documented(404, 413)
)


@router.post("/checkpoints/{checkpoint_id}")
async def update_checkpoint(
    job_id: str, checkpoint_id: str, body: CheckpointChange, rooms: RoomsDep, principal: PrincipalDep
) -> CheckpointOut:
    """Say how long the checkpoint stays, counted from now; null: until it is deleted."""
    async with rooms.db.write() as session:
        job = await _locked(session, principal.project_id, job_id)
        [checkpoint] = await _chosen(session, job, [checkpoint_id])
        checkpoint.expires_at = None if body.ttl_seconds is None else time.time() + body.ttl_seconds
        out = checkpoint_out(job, checkpoint)
        await audit(session, principal, "checkpoint.updated", checkpoint_id, detail={"ttl_seconds": body.ttl_seconds})
    return out


@router.delete("/checkpoints/{checkpoint_id}")
async def delete_checkpoint(
    job_id: str, checkpoint_id: str, rooms: RoomsDep, principal: PrincipalDep
) -> CheckpointDeleted:
    """Delete a checkpoint and its bytes. Refused while a job that has not ended goes on from it."""
    [gone] = await _deleted(rooms, principal, job_id, CheckpointsChosen(ids=[checkpoint_id]))
    return gone


@router.post("/checkpoints:delete")
async def delete_checkpoints(
    job_id: str, body: CheckpointsChosen, rooms: RoomsDep, principal: PrincipalDep
) -> ListOut[CheckpointDeleted]:
    """Delete several checkpoints: those named, all of them or none; or those of earlier steps, but for those that a job
    which has not ended goes on from."""
    return listed(await _deleted(rooms, principal, job_id, body), has_more=False)


async def _deleted(
    rooms: Resources, principal: Principal, job_id: str, body: CheckpointsChosen
) -> Sequence[CheckpointDeleted]:
    left = Leftovers()
    async with rooms.db.write() as session:
        job = await _locked(session, principal.project_id, job_id)
        if body.ids is not None:
            found = await _chosen(session, job, body.ids)
            await _check_free(session, found)
        else:
            found = await _kept(session, job, col(Checkpoint.step) < body.older_than_step, ~checkpoints.needed())
        await checkpoints.forget(session, job, found, left)
        for checkpoint in found:
            await audit(session, principal, "checkpoint.deleted", checkpoint.id)
    await checkpoints.remove(rooms, left)
    return [CheckpointDeleted(id=checkpoint.id) for checkpoint in found]


async def _locked(session: AsyncSession, project_id: str, job_id: str) -> Job:
    """Locked, so that it does not end meanwhile: what deleting means depends on that."""
    query = select(Job).where(col(Job.id) == job_id, col(Job.project_id) == project_id).with_for_update()
    job = (await session.execute(query)).scalar_one_or_none()
    if job is None:
        raise no_such_job()
    return job


async def _kept(session: AsyncSession, job: Job, *conditions: ColumnElement[bool]) -> Sequence[Checkpoint]:
    query = select(Checkpoint).where(col(Checkpoint.job_id) == job.id, *checkpoints.listed(), *conditions)
    return (await session.execute(query.order_by(col(Checkpoint.step)))).scalars().all()


async def _chosen(session: AsyncSession, job: Job, ids: Sequence[str]) -> Sequence[Checkpoint]:
    """In the order of ``ids``. Raises ``NotFound``."""
    found = {checkpoint.id: checkpoint for checkpoint in await _kept(session, job, col(Checkpoint.id).in_(ids))}
    for checkpoint_id in ids:
        if checkpoint_id not in found:
            raise NotFound("The job has no such checkpoint.", param="checkpoint_id", code="checkpoint_not_found")
    return [found[checkpoint_id] for checkpoint_id in dict.fromkeys(ids)]


async def _check_free(session: AsyncSession, found: Sequence[Checkpoint]) -> None:
    query = select(col(Checkpoint.id)).where(
        col(Checkpoint.id).in_([checkpoint.id for checkpoint in found]), checkpoints.needed()
    )
    used = (await session.execute(query.limit(1))).scalar_one_or_none()
    if used is not None:
        raise InvalidRequest(
            f"A job that has not ended goes on from the checkpoint {used}; wait for its end, or cancel it.",
            param="checkpoint_id",
            code="checkpoint_in_use",
        )

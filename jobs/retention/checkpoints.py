"""Deletion of published checkpoints: by their owner, or because they expire.

A job that has not ended may resume from its checkpoint. Such a checkpoint only stops being a model;
its bytes are deleted when the job no longer needs them. A checkpoint that is another job's starting
point stays until that job has ended. If it has expired, no other request can use it in the
meantime.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

from sqlalchemy import ColumnElement, delete, exists, select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased
from sqlmodel import col

from jobs.lifecycle.states import TERMINAL, checkpoint_name
from jobs.resources import Resources
from storage.clock import db_now, is_unexpired
from storage.folders import delete_folder
from storage.tables import Checkpoint, CheckpointPermission, Export, Job

log = logging.getLogger("luthier.checkpoints")

EXPIRY_BATCH_SIZE = 100
"""Expired checkpoints deleted per transaction."""


@dataclass
class OrphanedBlobs:
    """Blobs that no row refers to any more."""

    prefixes: list[str] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)


def is_published() -> list[ColumnElement[bool]]:
    """Return the conditions for checkpoints that are available as models now."""
    return [col(Checkpoint.published).is_(True), is_unexpired(col(Checkpoint.expires_at))]


def in_use() -> ColumnElement[bool]:
    """Return the condition for checkpoints that are the starting point of an unfinished job."""
    unfinished = aliased(Job)
    start_prefix = col(unfinished.starting_point)["prefix"].as_string()
    return exists().where(col(unfinished.state).not_in(TERMINAL), start_prefix == col(Checkpoint.prefix))


async def delete_checkpoints(
    session: AsyncSession, job: Job, checkpoints: Sequence[Checkpoint], orphans: OrphanedBlobs
) -> None:
    """Delete checkpoints as models, with their permissions and exports.

    The caller holds the lock on ``job``, their owner. Blobs to delete are added to ``orphans``.
    """
    chosen = col(Checkpoint.id).in_([checkpoint.id for checkpoint in checkpoints])
    if job.state in TERMINAL:
        await session.execute(delete(Checkpoint).where(chosen))
        orphans.prefixes += [checkpoint.prefix for checkpoint in checkpoints]
    else:
        await session.execute(update(Checkpoint).where(chosen).values(published=False, expires_at=None))
    names = [checkpoint_name(job, checkpoint.step) for checkpoint in checkpoints]
    await session.execute(delete(CheckpointPermission).where(col(CheckpointPermission.checkpoint_model).in_(names)))
    exports = delete(Export).where(col(Export.model_id).in_(names)).returning(col(Export.blob_key))
    orphans.keys += (await session.execute(exports)).scalars()


async def delete_orphaned_blobs(resources: Resources, orphans: OrphanedBlobs) -> None:
    """Delete orphaned blobs. Call this after the commit."""
    for prefix in orphans.prefixes:
        await resources.blob_threads.run(delete_folder, resources.blobs, prefix)
    for key in orphans.keys:
        await resources.blob_threads.run(resources.blobs.delete, key)


async def expire(resources: Resources) -> int:
    """Delete expired checkpoints and return their number."""
    conditions = [col(Checkpoint.published).is_(True), col(Checkpoint.expires_at) <= db_now(), ~in_use()]
    query = select(Checkpoint, Job).join(Job, col(Job.id) == col(Checkpoint.job_id)).where(*conditions)
    orphans = OrphanedBlobs()
    async with resources.db.write() as session:
        expired = (await session.execute(query.limit(EXPIRY_BATCH_SIZE).with_for_update(skip_locked=True))).all()
        for checkpoint, job in expired:
            await delete_checkpoints(session, job, [checkpoint], orphans)
    await delete_orphaned_blobs(resources, orphans)
    if expired:
        log.info("· %d checkpoints expired", len(expired))
    return len(expired)

"""The end of kept checkpoints: their owner deletes them, or they expire.

A checkpoint of a job that has not ended may be what the job resumes from: it only stops being a model, and its bytes go
when the job no longer needs them. What another job goes on from stays until that job has ended; one that has expired is
meanwhile not there for anybody else.
"""

from __future__ import annotations

import asyncio
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
"""Expired checkpoints that go in one transaction."""


@dataclass
class OrphanedBlobs:
    """Bytes that no row names any more."""

    prefixes: list[str] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)


def is_published() -> list[ColumnElement[bool]]:
    """Those that are models of their own now."""
    return [col(Checkpoint.published).is_(True), is_unexpired(col(Checkpoint.expires_at))]


def in_use() -> ColumnElement[bool]:
    """Those that a job which has not ended goes on from."""
    live = aliased(Job)
    start = col(live.starting_point)["prefix"].as_string()
    return exists().where(col(live.state).not_in(TERMINAL), start == col(Checkpoint.prefix))


async def delete_checkpoints(
    session: AsyncSession, job: Job, checkpoints: Sequence[Checkpoint], orphans: OrphanedBlobs
) -> None:
    """End them as models, with what others were allowed and what was made of them. ``job`` is theirs, and locked."""
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
    """After the commit."""
    for prefix in orphans.prefixes:
        await asyncio.to_thread(delete_folder, resources.blobs, prefix)
    for key in orphans.keys:
        await asyncio.to_thread(resources.blobs.delete, key)


async def expire(resources: Resources) -> int:
    """End those whose time has come. Their number."""
    due = [col(Checkpoint.published).is_(True), col(Checkpoint.expires_at) <= db_now(), ~in_use()]
    query = select(Checkpoint, Job).join(Job, col(Job.id) == col(Checkpoint.job_id)).where(*due)
    left = OrphanedBlobs()
    async with resources.db.write() as session:
        found = (await session.execute(query.limit(EXPIRY_BATCH_SIZE).with_for_update(skip_locked=True))).all()
        for checkpoint, job in found:
            await delete_checkpoints(session, job, [checkpoint], left)
    await delete_orphaned_blobs(resources, left)
    if found:
        log.info("· %d checkpoints expired", len(found))
    return len(found)

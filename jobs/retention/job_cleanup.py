"""Removing bytes that nothing will read again. Safe to run twice, at once, or never."""

from __future__ import annotations

import asyncio
import logging

from sqlalchemy import delete, select, update
from sqlmodel import col

from jobs.blob_keys import job_prefix
from jobs.lifecycle.states import TERMINAL
from jobs.resources import Resources
from storage.folders import MANIFEST, delete_folder
from storage.tables import Checkpoint, File, Job, Model

log = logging.getLogger("luthier.tidy")


async def superseded(rooms: Resources, job: Job, step: int) -> None:
    """Drop the resume-only checkpoints before the newest two: the one before it stays in case the newest is damaged."""
    async with rooms.db.write() as session:
        older = [col(Checkpoint.job_id) == job.id, col(Checkpoint.step) < step]
        query = select(Checkpoint).where(*older).order_by(col(Checkpoint.step).desc()).offset(1)
        gone = [row for row in (await session.execute(query)).scalars() if not row.keep]
        await session.execute(delete(Checkpoint).where(col(Checkpoint.id).in_([row.id for row in gone])))
    for row in gone:
        await asyncio.to_thread(delete_folder, rooms.blobs, row.prefix)


async def ended(rooms: Resources, job_id: str) -> None:
    """Keep of an ended job what its rows name as a model; drop optimizer states and what dead attempts left."""
    async with rooms.db.write() as session:
        job = await session.get(Job, job_id)
        if job is None or job.state not in TERMINAL or job.tidied:
            return
        mine = col(Checkpoint.job_id) == job_id
        await session.execute(delete(Checkpoint).where(mine, col(Checkpoint.keep).is_(False)))
        checkpoints = list((await session.execute(select(col(Checkpoint.prefix)).where(mine))).scalars())
        models = (await session.execute(select(col(Model.prefix)).where(col(Model.job_id) == job_id))).scalars()
        files = (await session.execute(select(col(File.blob_key)).where(col(File.id).in_(job.result_files)))).scalars()
        kept = [f"{prefix}/" for prefix in models] + list(files)
        kept += [f"{prefix}/{name}" for prefix in checkpoints for name in ("model/", MANIFEST)]
    await asyncio.to_thread(_delete_others, rooms, job_prefix(job), tuple(kept))
    async with rooms.db.write() as session:
        await session.execute(update(Job).where(col(Job.id) == job_id).values(tidied=True))


def _delete_others(rooms: Resources, prefix: str, kept: tuple[str, ...]) -> None:
    others = [info for info in rooms.blobs.list(prefix) if not info.key.startswith(kept)]
    for info in others:
        rooms.blobs.delete(info.key)
    log.info("· %s: %d blobs that nothing names removed", prefix, len(others))


async def untidy(rooms: Resources) -> list[str]:
    """Ended jobs whose worker did not get to tidy them."""
    query = select(col(Job.id)).where(col(Job.state).in_(TERMINAL), col(Job.tidied).is_(False)).limit(20)
    async with rooms.db.read() as session:
        return list((await session.execute(query)).scalars())

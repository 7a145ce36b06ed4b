"""Removing bytes that nothing will read again. Safe to run twice, at once, or never."""

from __future__ import annotations

import asyncio
import logging

from sqlalchemy import delete, select, update
from sqlmodel import col

from jobs.blob_keys import job_prefix
from jobs.lifecycle.states import TERMINAL
from jobs.resources import Resources
from storage.folders import MANIFEST_FILE, delete_folder
from storage.tables import Checkpoint, File, Job, Model

log = logging.getLogger("luthier.cleanup")


async def prune_checkpoints(resources: Resources, job: Job, step: int) -> None:
    """Drop the resume-only checkpoints before the newest two: the one before it stays in case the newest is damaged."""
    async with resources.db.write() as session:
        older = [col(Checkpoint.job_id) == job.id, col(Checkpoint.step) < step]
        query = select(Checkpoint).where(*older).order_by(col(Checkpoint.step).desc()).offset(1)
        gone = [row for row in (await session.execute(query)).scalars() if not row.published]
        await session.execute(delete(Checkpoint).where(col(Checkpoint.id).in_([row.id for row in gone])))
    for row in gone:
        await asyncio.to_thread(delete_folder, resources.blobs, row.prefix)


async def clean_up_job(resources: Resources, job_id: str) -> None:
    """Keep of an ended job what its rows name as a model; drop optimizer states and what dead attempts left."""
    async with resources.db.write() as session:
        job = await session.get(Job, job_id)
        if job is None or job.state not in TERMINAL or job.cleaned_up:
            return
        mine = col(Checkpoint.job_id) == job_id
        await session.execute(delete(Checkpoint).where(mine, col(Checkpoint.published).is_(False)))
        checkpoints = list((await session.execute(select(col(Checkpoint.prefix)).where(mine))).scalars())
        models = (await session.execute(select(col(Model.prefix)).where(col(Model.job_id) == job_id))).scalars()
        files = (await session.execute(select(col(File.blob_key)).where(col(File.id).in_(job.result_files)))).scalars()
        kept = [f"{prefix}/" for prefix in models] + list(files)
        kept += [f"{prefix}/{name}" for prefix in checkpoints for name in ("model/", MANIFEST_FILE)]
    await asyncio.to_thread(_delete_unreferenced, resources, job_prefix(job), tuple(kept))
    async with resources.db.write() as session:
        await session.execute(update(Job).where(col(Job.id) == job_id).values(cleaned_up=True))


def _delete_unreferenced(resources: Resources, prefix: str, retained: tuple[str, ...]) -> None:
    others = [info for info in resources.blobs.list(prefix) if not info.key.startswith(retained)]
    for info in others:
        resources.blobs.delete(info.key)
    log.info("· %s: %d blobs that nothing names removed", prefix, len(others))


async def find_jobs_to_clean_up(resources: Resources) -> list[str]:
    """Ended jobs whose worker did not get to tidy them."""
    query = select(col(Job.id)).where(col(Job.state).in_(TERMINAL), col(Job.cleaned_up).is_(False)).limit(20)
    async with resources.db.read() as session:
        return list((await session.execute(query)).scalars())

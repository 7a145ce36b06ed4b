"""Deletion of a job's blobs that are no longer needed.

Safe to run twice, concurrently, or never.
"""

from __future__ import annotations

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
    """Delete the job's unpublished checkpoints, except the newest two.

    ``step`` is the newest checkpoint's. The one before it stays in case the newest is damaged.
    """
    async with resources.db.write() as session:
        is_older = [col(Checkpoint.job_id) == job.id, col(Checkpoint.step) < step]
        query = select(Checkpoint).where(*is_older).order_by(col(Checkpoint.step).desc()).offset(1)
        unneeded = [row for row in (await session.execute(query)).scalars() if not row.published]
        await session.execute(delete(Checkpoint).where(col(Checkpoint.id).in_([row.id for row in unneeded])))
    for row in unneeded:
        await resources.blob_threads.run(delete_folder, resources.blobs, row.prefix)


async def clean_up_job(resources: Resources, job_id: str) -> None:
    """Delete an ended job's blobs, except its models and result files.

    This removes optimizer states and whatever interrupted attempts left.
    """
    async with resources.db.write() as session:
        job = await session.get(Job, job_id)
        if job is None or job.state not in TERMINAL or job.cleaned_up:
            return
        in_job = col(Checkpoint.job_id) == job_id
        await session.execute(delete(Checkpoint).where(in_job, col(Checkpoint.published).is_(False)))
        checkpoints = list((await session.execute(select(col(Checkpoint.prefix)).where(in_job))).scalars())
        models = (await session.execute(select(col(Model.prefix)).where(col(Model.job_id) == job_id))).scalars()
        files = (await session.execute(select(col(File.blob_key)).where(col(File.id).in_(job.result_files)))).scalars()
        retained = [f"{prefix}/" for prefix in models] + list(files)
        retained += [f"{prefix}/{name}" for prefix in checkpoints for name in ("model/", MANIFEST_FILE)]
    await resources.blob_threads.run(_delete_unreferenced, resources, job_prefix(job), tuple(retained))
    async with resources.db.write() as session:
        await session.execute(update(Job).where(col(Job.id) == job_id).values(cleaned_up=True))


def _delete_unreferenced(resources: Resources, prefix: str, retained: tuple[str, ...]) -> None:
    unneeded = [info for info in resources.blobs.list(prefix) if not info.key.startswith(retained)]
    for info in unneeded:
        resources.blobs.delete(info.key)
    log.info("· %s: deleted %d unneeded blobs", prefix, len(unneeded))


async def find_jobs_to_clean_up(resources: Resources) -> list[str]:
    """Return the ids of ended jobs that their worker did not clean up."""
    query = select(col(Job.id)).where(col(Job.state).in_(TERMINAL), col(Job.cleaned_up).is_(False)).limit(20)
    async with resources.db.read() as session:
        return list((await session.execute(query)).scalars())

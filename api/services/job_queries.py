"""Lookup of a project's jobs. Jobs of other projects count as missing."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from api.errors import NotFound
from storage.tables import Job


async def get_job_or_404(session: AsyncSession, project_id: str, job_id: str) -> Job:
    """Return the project's job. Raises ``NotFound``."""
    query = select(Job).where(col(Job.id) == job_id, col(Job.project_id) == project_id)
    job = (await session.execute(query)).scalar_one_or_none()
    if job is None:
        raise job_not_found()
    return job


def job_not_found() -> NotFound:
    return NotFound("There is no such fine-tuning job for this key.", param="fine_tuning_job_id")

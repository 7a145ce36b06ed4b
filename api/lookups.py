"""What thousands of polling clients ask for, each kind as one query at a time: see :mod:`storage.batched`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import cast

from sqlalchemy import select
from sqlmodel import col

from api.owned import no_such_job
from storage import keys
from storage.batched import Batched
from storage.db import Database
from storage.keys import Principal
from storage.limits import Limits
from storage.tables import Job


class Lookups:
    """Of one process, on its event loop."""

    def __init__(self, db: Database, limits: Limits) -> None:
        self._db = db
        self._limits = limits
        self._principals = Batched(self._find_principals)
        self._jobs = Batched(self._find_jobs)

    async def principal(self, key: str) -> Principal | None:
        """Whose key this is, with the limits in force: the project's, and the server's where it has none.

        None for a key that is unknown or not in force.
        """
        return await self._principals.get(keys.hashed(key))

    async def job(self, project_id: str, job_id: str) -> Job:
        """To read: others may hold the same row. Raises ``NotFound`` where the project has no such job."""
        job = await self._jobs.get(job_id)
        if job is None or job.project_id != project_id:
            raise no_such_job()
        return job

    async def _find_principals(self, hashes: Sequence[str]) -> Mapping[str, Principal]:
        async with self._db.read() as session:
            found = await keys.principals(session, hashes)
        return {digest: replace(one, limits=one.limits.over(self._limits)) for digest, one in found.items()}

    async def _find_jobs(self, ids: Sequence[str]) -> Mapping[str, Job]:
        # Rows with a job's attributes, not objects that SQLAlchemy would keep watch of: half the time.
        query = select(Job.metadata.tables[Job.__tablename__]).where(col(Job.id).in_(ids))
        async with self._db.read() as session:
            return {row.id: cast(Job, row) for row in await session.execute(query)}

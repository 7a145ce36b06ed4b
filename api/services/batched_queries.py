"""What thousands of polling clients ask for, each kind as one query at a time: see :mod:`storage.batch_loader`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import cast

from sqlalchemy import bindparam, select
from sqlmodel import SQLModel

from api.services.job_queries import no_such_job
from storage.access import keys
from storage.access.keys import Principal
from storage.access.limits import Limits
from storage.batch_loader import Batched
from storage.db import Database
from storage.tables import Job

# Rows with a job's attributes, not objects that SQLAlchemy would keep watch of: half the time.
_TABLE = SQLModel.metadata.tables["jobs"]
_JOBS = select(_TABLE).where(_TABLE.c.id.in_(bindparam("ids", expanding=True)))


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
        async with self._db.single() as connection:
            found = await keys.principals(connection, hashes)
        return {digest: replace(one, limits=one.limits.over(self._limits)) for digest, one in found.items()}

    async def _find_jobs(self, ids: Sequence[str]) -> Mapping[str, Job]:
        async with self._db.single() as connection:
            return {row.id: cast(Job, row) for row in await connection.execute(_JOBS, {"ids": ids})}

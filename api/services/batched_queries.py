"""Lookups for thousands of polling clients, merged into one query per kind at a time.

See :mod:`storage.batch_loader`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import cast

from sqlalchemy import bindparam, select
from sqlmodel import SQLModel

from api.services.job_queries import job_not_found
from storage.access import keys
from storage.access.keys import Principal
from storage.access.limits import Limits
from storage.batch_loader import BatchLoader
from storage.db import Database
from storage.tables import Job

# Rows with a job's attributes take half the time of objects that SQLAlchemy tracks.
_JOB_TABLE = SQLModel.metadata.tables["jobs"]
_JOBS_BY_ID = select(_JOB_TABLE).where(_JOB_TABLE.c.id.in_(bindparam("ids", expanding=True)))


class BatchedQueries:
    """Merged lookups of one process, for use on its event loop."""

    def __init__(self, db: Database, limits: Limits) -> None:
        self._db = db
        self._limits = limits
        self._principal_loader = BatchLoader(self._load_principals)
        self._job_loader = BatchLoader(self._load_jobs)

    async def get_principal(self, key: str) -> Principal | None:
        """Return the key's principal, or None if the key is unknown or not valid.

        Its limits are the project's, or the server's if the project has none.
        """
        return await self._principal_loader.load(keys.hash_key(key))

    async def get_job(self, project_id: str, job_id: str) -> Job:
        """Return the project's job. Raises ``NotFound``.

        Do not modify it: concurrent requests may share the same row.
        """
        job = await self._job_loader.load(job_id)
        if job is None or job.project_id != project_id:
            raise job_not_found()
        return job

    async def _load_principals(self, hashes: Sequence[str]) -> Mapping[str, Principal]:
        async with self._db.autocommit() as connection:
            principals = await keys.find_principals(connection, hashes)
        return {
            digest: replace(principal, limits=principal.limits.with_defaults(self._limits))
            for digest, principal in principals.items()
        }

    async def _load_jobs(self, ids: Sequence[str]) -> Mapping[str, Job]:
        async with self._db.autocommit() as connection:
            return {row.id: cast(Job, row) for row in await connection.execute(_JOBS_BY_ID, {"ids": ids})}

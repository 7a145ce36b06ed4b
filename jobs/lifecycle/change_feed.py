"""Waiting for a job to tell something: one query a moment for all who wait in this process, none while nobody does."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress

from sqlalchemy import select
from sqlmodel import col

from storage.db import Database
from storage.errors import StorageUnavailable
from storage.tables import Job

log = logging.getLogger("luthier.watch")

LOOK_SECONDS = 0.5

_Sight = tuple[int, str]


class Watch:
    """Made by :func:`watching`."""

    def __init__(self, db: Database, seconds: float = LOOK_SECONDS) -> None:
        self._db = db
        self._seconds = seconds
        self._waiting: dict[str, set[asyncio.Event]] = {}
        self._seen: dict[str, _Sight] = {}
        self._wanted = asyncio.Event()

    @contextmanager
    def on(self, job_id: str) -> Iterator[asyncio.Event]:
        """An event that is set when the job has told something or changed its state, and soon after the beginning."""
        changed = asyncio.Event()
        self._waiting.setdefault(job_id, set()).add(changed)
        self._seen.pop(job_id, None)
        self._wanted.set()
        try:
            yield changed
        finally:
            self._waiting[job_id].discard(changed)
            if not self._waiting[job_id]:
                del self._waiting[job_id]
                self._seen.pop(job_id, None)
            if not self._waiting:
                self._wanted.clear()

    async def look_for_ever(self) -> None:
        while True:
            await self._wanted.wait()
            try:
                await self._look()
            except StorageUnavailable as error:
                log.warning("jobs are not watched for a moment: %s", error)
            await asyncio.sleep(self._seconds)

    async def _look(self) -> None:
        query = select(col(Job.id), col(Job.last_seq), col(Job.state)).where(col(Job.id).in_(list(self._waiting)))
        async with self._db.read() as session:
            rows = (await session.execute(query)).all()
        for job_id, seq, state in rows:
            if self._seen.get(job_id) != (seq, state) and job_id in self._waiting:
                self._seen[job_id] = (seq, state)
                for changed in self._waiting[job_id]:
                    changed.set()


@asynccontextmanager
async def watching(db: Database) -> AsyncIterator[Watch]:
    """Until it is left."""
    watch = Watch(db)
    looking = asyncio.create_task(watch.look_for_ever())
    try:
        yield watch
    finally:
        looking.cancel()
        with suppress(asyncio.CancelledError):
            await looking

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

POLL_SECONDS = 0.5

_JobVersion = tuple[int, str]


class JobChangeFeed:
    """Made by :func:`watching`."""

    def __init__(self, db: Database, poll_seconds: float = POLL_SECONDS) -> None:
        self._db = db
        self._poll_seconds = poll_seconds
        self._subscribers: dict[str, set[asyncio.Event]] = {}
        self._last_versions: dict[str, _JobVersion] = {}
        self._has_subscribers = asyncio.Event()

    @contextmanager
    def subscribe(self, job_id: str) -> Iterator[asyncio.Event]:
        """An event that is set when the job has told something or changed its state, and soon after the beginning."""
        changed = asyncio.Event()
        self._subscribers.setdefault(job_id, set()).add(changed)
        self._last_versions.pop(job_id, None)
        self._has_subscribers.set()
        try:
            yield changed
        finally:
            self._subscribers[job_id].discard(changed)
            if not self._subscribers[job_id]:
                del self._subscribers[job_id]
                self._last_versions.pop(job_id, None)
            if not self._subscribers:
                self._has_subscribers.clear()

    async def run(self) -> None:
        while True:
            await self._has_subscribers.wait()
            try:
                await self._poll()
            except StorageUnavailable as error:
                log.warning("jobs are not watched for a moment: %s", error)
            await asyncio.sleep(self._poll_seconds)

    async def _poll(self) -> None:
        query = select(col(Job.id), col(Job.last_seq), col(Job.state)).where(col(Job.id).in_(list(self._subscribers)))
        async with self._db.read() as session:
            rows = (await session.execute(query)).all()
        for job_id, seq, state in rows:
            if self._last_versions.get(job_id) != (seq, state) and job_id in self._subscribers:
                self._last_versions[job_id] = (seq, state)
                for changed in self._subscribers[job_id]:
                    changed.set()


@asynccontextmanager
async def open_change_feed(db: Database) -> AsyncIterator[JobChangeFeed]:
    """Until it is left."""
    watch = JobChangeFeed(db)
    looking = asyncio.create_task(watch.run())
    try:
        yield watch
    finally:
        looking.cancel()
        with suppress(asyncio.CancelledError):
            await looking

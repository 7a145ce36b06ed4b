"""Change notifications for jobs: one polling query per process, shared by all subscribers.

There is no query while there are no subscribers.
"""

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

log = logging.getLogger("luthier.change_feed")

POLL_SECONDS = 0.5

_JobVersion = tuple[int, str]


class JobChangeFeed:
    """Polls jobs and wakes their subscribers. Created by :func:`open_change_feed`."""

    def __init__(self, db: Database, poll_seconds: float = POLL_SECONDS) -> None:
        self._db = db
        self._poll_seconds = poll_seconds
        self._subscribers: dict[str, set[asyncio.Event]] = {}
        self._last_versions: dict[str, _JobVersion] = {}
        self._has_subscribers = asyncio.Event()

    @contextmanager
    def subscribe(self, job_id: str) -> Iterator[asyncio.Event]:
        """Yield an event that is set when the job has new events or another state.

        It is also set soon after the subscription begins.
        """
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
                log.warning("cannot poll jobs for changes: %s", error)
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
    """Run a change feed while the body runs."""
    change_feed = JobChangeFeed(db)
    task = asyncio.create_task(change_feed.run())
    try:
        yield change_feed
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

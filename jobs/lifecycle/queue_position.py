"""Where queued jobs stand and when they may start, from one look at the queue that many who ask share.

A job's owner asks every few seconds, and a look takes longer the longer the queue is; so a process looks again only
when so much time has passed that looking stays a small share of it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from heapq import heapify, heapreplace
from math import inf
from statistics import median
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased
from sqlmodel import col

from jobs.lifecycle.states import QUEUED, RUNNING
from storage.db import Database
from storage.tables import Job

REFRESH_COST_FACTOR = 20.0
"""A look is good for so many times as long as it took."""
MAX_AGE_SECONDS = 5.0


@dataclass(frozen=True)
class QueuePosition:
    """``position``: 1 is next. ``start`` and ``finish``: seconds since 1970, None where they cannot be told."""

    position: int
    start: float | None = None
    finish: float | None = None


class QueueEstimator:
    """The queue as this process saw it last."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._refresh_lock = asyncio.Lock()
        self._positions: Mapping[str, QueuePosition] = {}
        self._fresh_until = 0.0

    async def get_position(self, job_id: str) -> QueuePosition | None:
        """Of a queued job; None where it was taken meanwhile. Raises ``StorageUnavailable``."""
        asked = time.monotonic()
        if asked > self._fresh_until or job_id not in self._positions:
            async with self._refresh_lock:
                # Whoever waited here for another's look takes that one.
                if self._fresh_until <= asked or job_id not in self._positions:
                    await self._refresh()
        return self._positions.get(job_id)

    async def _refresh(self) -> None:
        began = time.monotonic()
        async with self._db.read() as session:
            self._positions = await load_positions(session)
        took = time.monotonic() - began
        self._fresh_until = began + took + min(REFRESH_COST_FACTOR * took, MAX_AGE_SECONDS)


async def load_positions(session: AsyncSession) -> dict[str, QueuePosition]:
    """Every queued job, in the order in which :func:`jobs.lifecycle.transitions.claim` takes them."""
    running = (await session.execute(select(col(Job.progress)).where(col(Job.state) == RUNNING))).scalars().all()
    other = aliased(Job)
    same = [col(other.project_id) == col(Job.project_id), col(other.state) == RUNNING]
    busy = select(func.count()).select_from(other).where(*same).scalar_subquery()
    query = select(col(Job.id), col(Job.progress)).where(col(Job.state) == QUEUED)
    queue = (await session.execute(query.order_by(busy, col(Job.created_at), col(Job.id)))).all()
    return estimate_positions([(job_id, progress) for job_id, progress in queue], running, time.time())


def estimate_positions(
    queue: Sequence[tuple[str, dict[str, Any] | None]], running: Sequence[dict[str, Any] | None], now: float
) -> dict[str, QueuePosition]:
    """As if every place where a job runs now were given to the next of the queue, and no other. From ``progress``: the
    seconds that a running job has left, and the tokens of a queued one at the speed of those that run, or what it had
    left when it was interrupted."""
    speeds = [found["tokens_per_second"] for found in running if found and found.get("tokens_per_second")]
    speed = median(speeds) if speeds else None
    free = [_estimate_seconds_left(found, speed) for found in running] or [inf]
    heapify(free)
    places: dict[str, QueuePosition] = {}
    for number, (job_id, progress) in enumerate(queue, 1):
        start = free[0]
        finish = start + _estimate_seconds_left(progress, speed)
        heapreplace(free, finish)
        places[job_id] = QueuePosition(number, _to_timestamp(now, start), _to_timestamp(now, finish))
    return places


def _estimate_seconds_left(progress: dict[str, Any] | None, speed: float | None) -> float:
    """Seconds; infinity where nobody knows."""
    if progress is None:
        return inf
    if progress["eta"] is not None:
        return float(progress["eta"])
    tokens = progress.get("tokens")
    return float(tokens) / speed if tokens and speed else inf


def _to_timestamp(now: float, seconds: float) -> float | None:
    return None if seconds == inf else now + seconds

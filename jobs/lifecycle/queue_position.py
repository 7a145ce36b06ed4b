"""Positions and estimated start times of queued jobs, from one queue query that all requests share.

Clients poll every few seconds, and the query takes longer for a longer queue. A process therefore
repeats it only after a multiple of its duration, so that queries stay a small share of the time.
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
"""A result is reused for this many times the duration of its query."""
MAX_AGE_SECONDS = 5.0


@dataclass(frozen=True)
class QueuePosition:
    """Position of a job in the queue; 1 is next.

    ``start`` and ``finish`` are estimates in seconds since 1970, None if unknown.
    """

    position: int
    start: float | None = None
    finish: float | None = None


class QueueEstimator:
    """Cached queue positions, one per process."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._refresh_lock = asyncio.Lock()
        self._positions: Mapping[str, QueuePosition] = {}
        self._fresh_until = 0.0

    async def get_position(self, job_id: str) -> QueuePosition | None:
        """Return the position of a queued job, or None if it is no longer queued.

        Raises ``StorageUnavailable``.
        """
        requested_at = time.monotonic()
        if requested_at > self._fresh_until or job_id not in self._positions:
            async with self._refresh_lock:
                # A caller that waited for another caller's refresh uses its result.
                if self._fresh_until <= requested_at or job_id not in self._positions:
                    await self._refresh()
        return self._positions.get(job_id)

    async def _refresh(self) -> None:
        started_at = time.monotonic()
        async with self._db.read() as session:
            self._positions = await load_positions(session)
        ended_at = time.monotonic()
        self._fresh_until = ended_at + min(REFRESH_COST_FACTOR * (ended_at - started_at), MAX_AGE_SECONDS)


async def load_positions(session: AsyncSession) -> dict[str, QueuePosition]:
    """Return all queued jobs in the order of :func:`jobs.lifecycle.transitions.claim`."""
    running = (await session.execute(select(col(Job.progress)).where(col(Job.state) == RUNNING))).scalars().all()
    other = aliased(Job)
    same_project = [col(other.project_id) == col(Job.project_id), col(other.state) == RUNNING]
    running_count = select(func.count()).select_from(other).where(*same_project).scalar_subquery()
    query = select(col(Job.id), col(Job.progress)).where(col(Job.state) == QUEUED)
    queue = (await session.execute(query.order_by(running_count, col(Job.created_at), col(Job.id)))).all()
    return estimate_positions([(job_id, progress) for job_id, progress in queue], running, time.time())


def estimate_positions(
    queue: Sequence[tuple[str, dict[str, Any] | None]], running: Sequence[dict[str, Any] | None], now: float
) -> dict[str, QueuePosition]:
    """Simulate the queue: every slot that runs a job now takes the next queued job when it is free.

    ``queue`` and ``running`` hold ``progress`` values of jobs. A running job has its ``eta`` left.
    A queued job has its tokens at the median speed of the running jobs, or the ``eta`` it had when
    it was interrupted.
    """
    speeds = [progress["tokens_per_second"] for progress in running if progress and progress.get("tokens_per_second")]
    speed = median(speeds) if speeds else None
    free_after = [_estimate_seconds_left(progress, speed) for progress in running] or [inf]
    heapify(free_after)
    positions: dict[str, QueuePosition] = {}
    for number, (job_id, progress) in enumerate(queue, 1):
        start = free_after[0]
        finish = start + _estimate_seconds_left(progress, speed)
        heapreplace(free_after, finish)
        positions[job_id] = QueuePosition(number, _to_timestamp(now, start), _to_timestamp(now, finish))
    return positions


def _estimate_seconds_left(progress: dict[str, Any] | None, speed: float | None) -> float:
    """Return the estimated seconds left, infinity if unknown."""
    if progress is None:
        return inf
    if progress["eta"] is not None:
        return float(progress["eta"])
    tokens = progress.get("tokens")
    return float(tokens) / speed if tokens and speed else inf


def _to_timestamp(now: float, seconds: float) -> float | None:
    return None if seconds == inf else now + seconds

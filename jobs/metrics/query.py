"""The measured steps of a job, or some of them evenly spread."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from jobs.metrics.wire_format import to_wire_metrics
from storage.tables import Metric


@dataclass(frozen=True)
class StepQuery:
    """``first`` and ``last``: steps, inclusive. ``resolution``: about so many of them, and the last."""

    first: int
    last: int | None
    limit: int
    resolution: int | None


async def load_steps(session: AsyncSession, job_id: str, step_query: StepQuery) -> list[dict[str, Any]]:
    """In order, with OpenAI's names beside ours."""
    among = [col(Metric.job_id) == job_id, col(Metric.step) >= step_query.first]
    if step_query.last is not None:
        among.append(col(Metric.step) <= step_query.last)
    query = select(col(Metric.data)).where(*among)
    if step_query.resolution is not None:
        number = func.row_number().over(order_by=col(Metric.step))
        counted = select(col(Metric.step), number.label("number"), func.count().over().label("total")).where(*among)
        ranked = counted.subquery()
        stride = (ranked.c.total + step_query.resolution - 1) // step_query.resolution
        even = (ranked.c.number - 1) % stride == 0
        spread = select(ranked.c.step).where(or_(even, ranked.c.number == ranked.c.total))
        query = query.where(col(Metric.step).in_(spread))
    rows = (await session.execute(query.order_by(col(Metric.step)).limit(step_query.limit))).scalars()
    return [to_wire_metrics(data) for data in rows]

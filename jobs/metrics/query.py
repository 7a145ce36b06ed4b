"""Queries of a job's recorded steps: all of them, or an evenly spaced sample."""

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
    """Selection of steps.

    ``first`` and ``last`` are inclusive step numbers. With ``resolution`` the result is about that
    many evenly spaced steps, and the last one.
    """

    first: int
    last: int | None
    limit: int
    resolution: int | None


async def load_steps(session: AsyncSession, job_id: str, step_query: StepQuery) -> list[dict[str, Any]]:
    """Return the metrics of the selected steps in order, with OpenAI's names beside ours."""
    conditions = [col(Metric.job_id) == job_id, col(Metric.step) >= step_query.first]
    if step_query.last is not None:
        conditions.append(col(Metric.step) <= step_query.last)
    query = select(col(Metric.data)).where(*conditions)
    if step_query.resolution is not None:
        row_number = func.row_number().over(order_by=col(Metric.step))
        numbered = select(col(Metric.step), row_number.label("number"), func.count().over().label("total"))
        ranked = numbered.where(*conditions).subquery()
        stride = (ranked.c.total + step_query.resolution - 1) // step_query.resolution
        is_on_stride = (ranked.c.number - 1) % stride == 0
        sample = select(ranked.c.step).where(or_(is_on_stride, ranked.c.number == ranked.c.total))
        query = query.where(col(Metric.step).in_(sample))
    rows = (await session.execute(query.order_by(col(Metric.step)).limit(step_query.limit))).scalars()
    return [to_wire_metrics(data) for data in rows]

"""What a job has measured, and what it tells while it runs."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import Field
from sqlmodel import col
from starlette.requests import Request
from starlette.responses import StreamingResponse

from api.deps import PrincipalDep, RoomsDep
from api.errors import documented
from api.http.pagination import Digits
from api.http.strict_json import StrictRoute
from api.schemas.fine_tuning.metrics import MetricOut, MetricsOut
from api.schemas.serializers import event_out
from api.services.job_event_stream import STREAM, Following, LastEventId
from api.services.job_queries import owned_job
from jobs.metrics import query
from storage.tables import Event

router = APIRouter(
    prefix="/fine_tuning/jobs/{job_id}", tags=["fine-tuning"], route_class=StrictRoute, responses=documented(404)
)

MOST = 10_000

Step = Annotated[Annotated[int, Field(ge=0, le=2**31 - 1)] | None, Digits, Query(description="Inclusive.")]
Steps = Annotated[int, Field(ge=1, le=MOST), Digits, Query(description="Steps in one answer.")]
Resolution = Annotated[
    Annotated[int, Field(ge=1, le=MOST)] | None,
    Digits,
    Query(description="About so many of the steps asked for, evenly spread, the last one among them."),
]


@router.get("/metrics")
async def list_fine_tuning_job_metrics(
    job_id: str,
    rooms: RoomsDep,
    principal: PrincipalDep,
    step_from: Step = None,
    step_to: Step = None,
    limit: Steps = 1000,
    resolution: Resolution = None,
) -> MetricsOut:
    """What was measured, step by step. Where there is more than ``limit``, ask again with a larger ``step_from``."""
    wanted = query.Wanted(step_from or 0, step_to, limit + 1, resolution)
    async with rooms.db.read() as session:
        job = await owned_job(session, principal.project_id, job_id)
        steps = await query.steps(session, job.id, wanted)
    return MetricsOut(data=[MetricOut.model_validate(step) for step in steps[:limit]], has_more=len(steps) > limit)


@router.get("/metrics/stream", response_class=StreamingResponse, responses=STREAM)
async def stream_fine_tuning_job_metrics(
    job_id: str, request: Request, rooms: RoomsDep, principal: PrincipalDep, last_event_id: LastEventId = None
) -> StreamingResponse:
    """Each measured step as a server-sent event, from the first or from ``Last-Event-ID`` on, until an event ``done``
    says that the job has ended."""
    async with rooms.db.read() as session:
        job = await owned_job(session, principal.project_id, job_id)
    measures = [col(Event.type) == "metrics"]
    return Following(rooms.db, request.app.state.watch, job.id, measures, _measure).response(last_event_id or 0)


@router.get("/events/stream", response_class=StreamingResponse, responses=STREAM)
async def stream_fine_tuning_events(
    job_id: str, request: Request, rooms: RoomsDep, principal: PrincipalDep, last_event_id: LastEventId = None
) -> StreamingResponse:
    """Each event of the job as a server-sent event, the oldest first, from the first or from ``Last-Event-ID`` on,
    until an event ``done`` says that the job has ended."""
    async with rooms.db.read() as session:
        job = await owned_job(session, principal.project_id, job_id)
    return Following(rooms.db, request.app.state.watch, job.id, [], event_out).response(last_event_id or 0)


def _measure(event: Event) -> MetricOut:
    return MetricOut.model_validate(event.data)

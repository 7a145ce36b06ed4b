"""Routes for a job's metrics, and for streams of its metrics and events."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import Field
from sqlmodel import col
from starlette.responses import StreamingResponse

from api.deps import ChangeFeedDep, PrincipalDep, ResourcesDep
from api.errors import error_responses
from api.http.pagination import Digits
from api.http.strict_json import StrictRoute
from api.schemas.fine_tuning.metrics import MetricOut, MetricsOut
from api.schemas.serializers import to_event_out
from api.services.job_event_stream import EVENT_STREAM_RESPONSES, JobEventStream, LastEventId
from api.services.job_queries import get_job_or_404
from jobs.metrics import query
from storage.tables import Event

router = APIRouter(
    prefix="/fine_tuning/jobs/{job_id}", tags=["fine-tuning"], route_class=StrictRoute, responses=error_responses(404)
)

MAX_STEPS = 10_000

StepBound = Annotated[
    Annotated[int, Field(ge=0, le=2**31 - 1)] | None, Digits, Query(description="Inclusive bound on the step.")
]
StepLimit = Annotated[
    int, Field(ge=1, le=MAX_STEPS), Digits, Query(description="Maximum number of steps per response.")
]
Resolution = Annotated[
    Annotated[int, Field(ge=1, le=MAX_STEPS)] | None,
    Digits,
    Query(description="Approximate number of steps to return, evenly spaced, including the last one."),
]


@router.get("/metrics")
async def list_fine_tuning_job_metrics(
    job_id: str,
    resources: ResourcesDep,
    principal: PrincipalDep,
    step_from: StepBound = None,
    step_to: StepBound = None,
    limit: StepLimit = 1000,
    resolution: Resolution = None,
) -> MetricsOut:
    """List the metrics of each step.

    While ``has_more`` is true, request the next steps with a larger ``step_from``.
    """
    step_query = query.StepQuery(step_from or 0, step_to, limit + 1, resolution)
    async with resources.db.read() as session:
        job = await get_job_or_404(session, principal.project_id, job_id)
        steps = await query.load_steps(session, job.id, step_query)
    return MetricsOut(data=[MetricOut.model_validate(step) for step in steps[:limit]], has_more=len(steps) > limit)


@router.get("/metrics/stream", response_class=StreamingResponse, responses=EVENT_STREAM_RESPONSES)
async def stream_fine_tuning_job_metrics(
    job_id: str,
    resources: ResourcesDep,
    principal: PrincipalDep,
    change_feed: ChangeFeedDep,
    last_event_id: LastEventId = None,
) -> StreamingResponse:
    """Stream the metrics of each step as server-sent events.

    The stream starts with the first event, or after ``Last-Event-ID``. An event ``done`` reports
    the end of the job and ends the stream.
    """
    async with resources.db.read() as session:
        job = await get_job_or_404(session, principal.project_id, job_id)
    conditions = [col(Event.type) == "metrics"]
    return JobEventStream(resources.db, change_feed, job.id, conditions, _to_metric_out).to_response(last_event_id or 0)


@router.get("/events/stream", response_class=StreamingResponse, responses=EVENT_STREAM_RESPONSES)
async def stream_fine_tuning_events(
    job_id: str,
    resources: ResourcesDep,
    principal: PrincipalDep,
    change_feed: ChangeFeedDep,
    last_event_id: LastEventId = None,
) -> StreamingResponse:
    """Stream the job's events as server-sent events, oldest first.

    The stream starts with the first event, or after ``Last-Event-ID``. An event ``done`` reports
    the end of the job and ends the stream.
    """
    async with resources.db.read() as session:
        job = await get_job_or_404(session, principal.project_id, job_id)
    return JobEventStream(resources.db, change_feed, job.id, [], to_event_out).to_response(last_event_id or 0)


def _to_metric_out(event: Event) -> MetricOut:
    return MetricOut.model_validate(event.data)

"""Routes that create, list and retrieve fine-tuning jobs."""

from __future__ import annotations

import re

from fastapi import APIRouter
from sqlalchemy import ColumnElement
from sqlmodel import col
from starlette.requests import Request

from api.deps import IdempotencyDep, PrincipalDep, ResourcesDep, get_batched_queries, get_principal, get_queue_estimator
from api.errors import InvalidRequest, error_responses
from api.http.pagination import CHECKPOINTS, EVENTS, JOBS, After, Cursor, Limit, ListOut, to_list
from api.http.strict_json import StrictRoute
from api.schemas.fine_tuning.jobs import CheckpointOut, EventOut, JobIn, JobOut
from api.schemas.serializers import to_checkpoint_out, to_event_out, to_job_out
from api.services.job_creation import create_job
from api.services.job_queries import get_job_or_404
from jobs.lifecycle.states import QUEUED
from jobs.retention import checkpoints
from storage.tables import Checkpoint, Event, Job

router = APIRouter(
    prefix="/fine_tuning/jobs", tags=["fine-tuning"], route_class=StrictRoute, responses=error_responses(404, 413)
)

_METADATA_PARAM = re.compile(r"metadata\[(.{1,64})\]", re.DOTALL)


@router.post("")
async def create_fine_tuning_job(
    body: JobIn, resources: ResourcesDep, principal: PrincipalDep, recorder: IdempotencyDep
) -> JobOut:
    """Create a fine-tuning job, which trains a model on an uploaded file.

    The file's rows are validated afterward, in the state ``validating_files``.
    """
    return await create_job(resources, principal, body, recorder)


@router.get("")
async def list_fine_tuning_jobs(
    request: Request, resources: ResourcesDep, principal: PrincipalDep, limit: Limit = 20, after: After = None
) -> ListOut[JobOut]:
    """List the project's jobs, newest first.

    ``metadata[key]=value`` filters by metadata; ``metadata=null`` selects jobs without metadata.
    """
    conditions, filters = [col(Job.project_id) == principal.project_id], _build_metadata_filters(request)
    async with resources.db.read() as session:
        page = await JOBS.fetch_page(session, conditions, Cursor(after, limit), filters)
    return to_list([to_job_out(job, principal.organization_id) for job in page.rows], page.has_more)


@router.get("/{job_id}")
async def retrieve_fine_tuning_job(job_id: str, request: Request) -> JobOut:
    """Retrieve a job with its state, progress and result, and its position in the queue."""
    # Thousands of clients poll this route. Dependency injection would take longer than its work.
    principal, queries = await get_principal(request), await get_batched_queries(request)
    job = await queries.get_job(principal.project_id, job_id)
    position = None
    if job.state == QUEUED:
        estimator = await get_queue_estimator(request)
        position = await estimator.get_position(job.id)
    return to_job_out(job, principal.organization_id, position)


@router.get("/{job_id}/events")
async def list_fine_tuning_events(
    job_id: str, resources: ResourcesDep, principal: PrincipalDep, limit: Limit = 20, after: After = None
) -> ListOut[EventOut]:
    """List the job's events, newest first."""
    async with resources.db.read() as session:
        await get_job_or_404(session, principal.project_id, job_id)
        page = await EVENTS.fetch_page(session, [col(Event.job_id) == job_id], Cursor(after, limit))
    return to_list([to_event_out(event) for event in page.rows], page.has_more)


@router.get("/{job_id}/checkpoints")
async def list_fine_tuning_job_checkpoints(
    job_id: str, resources: ResourcesDep, principal: PrincipalDep, limit: Limit = 10, after: After = None
) -> ListOut[CheckpointOut]:
    """List the job's checkpoints, newest first. Each can be used as a model."""
    conditions = [col(Checkpoint.job_id) == job_id, *checkpoints.is_published()]
    async with resources.db.read() as session:
        job = await get_job_or_404(session, principal.project_id, job_id)
        page = await CHECKPOINTS.fetch_page(session, conditions, Cursor(after, limit))
    return to_list([to_checkpoint_out(job, checkpoint) for checkpoint in page.rows], page.has_more)


def _build_metadata_filters(request: Request) -> list[ColumnElement[bool]]:
    """Build the filters for ``metadata[key]=value`` (OpenAI's deepObject) and ``metadata=null``.

    Raises ``InvalidRequest``.
    """
    conditions: list[ColumnElement[bool]] = []
    for name, value in request.query_params.multi_items():
        if match := _METADATA_PARAM.fullmatch(name):
            conditions.append(_match_metadata(match[1], value))
        elif name == "metadata" and value == "null":
            conditions.append(col(Job.meta).is_(None))
        elif name.startswith("metadata"):
            raise InvalidRequest("Filter with metadata[key]=value or metadata=null.", param="metadata")
    return conditions


def _match_metadata(key: str, value: str) -> ColumnElement[bool]:
    if not key.isprintable() or '"' in key or "\\" in key:
        # SQLite compares the key in a JSON path with the stored text, which escapes these.
        raise InvalidRequest('The metadata key of a filter must be printable, without " and \\.', param="metadata")
    return col(Job.meta)[key].as_string() == value  # type: ignore[no-any-return]

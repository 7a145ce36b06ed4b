"""Fine-tuning jobs: made, listed, looked at."""

from __future__ import annotations

import re

from fastapi import APIRouter
from sqlalchemy import ColumnElement
from sqlmodel import col
from starlette.requests import Request

from api.deps import OnceDep, PrincipalDep, RoomsDep, lookups_of, principal_of
from api.errors import InvalidRequest, documented
from api.http.pagination import CHECKPOINTS, EVENTS, JOBS, After, Cursor, Limit, ListOut, listed
from api.http.strict_json import StrictRoute
from api.schemas.fine_tuning.jobs import CheckpointOut, EventOut, JobIn, JobOut
from api.schemas.serializers import checkpoint_out, event_out, job_out
from api.services.job_creation import make_job
from api.services.job_queries import owned_job
from jobs.lifecycle.states import QUEUED
from jobs.retention import checkpoints
from storage.tables import Checkpoint, Event, Job

router = APIRouter(
    prefix="/fine_tuning/jobs", tags=["fine-tuning"], route_class=StrictRoute, responses=documented(404, 413)
)

_METADATA = re.compile(r"metadata\[(.{1,64})\]", re.DOTALL)


@router.post("")
async def create_fine_tuning_job(body: JobIn, rooms: RoomsDep, principal: PrincipalDep, once: OnceDep) -> JobOut:
    """Train a base model on an uploaded file. Rows are checked after this, in the state ``validating_files``."""
    return await make_job(rooms, principal, body, once)


@router.get("")
async def list_fine_tuning_jobs(
    request: Request, rooms: RoomsDep, principal: PrincipalDep, limit: Limit = 20, after: After = None
) -> ListOut[JobOut]:
    """The project's jobs, the newest first; ``metadata[key]=value`` or ``metadata=null`` (those without) filters."""
    mine, filters = [col(Job.project_id) == principal.project_id], _metadata_filter(request)
    async with rooms.db.read() as session:
        page = await JOBS.page(session, mine, Cursor(after, limit), filters)
    return listed([job_out(job, principal.organization_id) for job in page.rows], page.has_more)


@router.get("/{job_id}")
async def retrieve_fine_tuning_job(job_id: str, request: Request) -> JobOut:
    """One job: its state, progress and result, and its place in the queue while it waits there."""
    # Thousands ask every few seconds: what FastAPI would hand over by annotation takes longer than this route.
    principal, lookups = await principal_of(request), await lookups_of(request)
    job = await lookups.job(principal.project_id, job_id)
    # Only of a queued job more is looked up than its row, and that seldom.
    place = await request.app.state.outlook.place(job.id) if job.state == QUEUED else None
    return job_out(job, principal.organization_id, place)


@router.get("/{job_id}/events")
async def list_fine_tuning_events(
    job_id: str, rooms: RoomsDep, principal: PrincipalDep, limit: Limit = 20, after: After = None
) -> ListOut[EventOut]:
    """What happened to the job, the newest first."""
    async with rooms.db.read() as session:
        await owned_job(session, principal.project_id, job_id)
        page = await EVENTS.page(session, [col(Event.job_id) == job_id], Cursor(after, limit))
    return listed([event_out(event) for event in page.rows], page.has_more)


@router.get("/{job_id}/checkpoints")
async def list_fine_tuning_job_checkpoints(
    job_id: str, rooms: RoomsDep, principal: PrincipalDep, limit: Limit = 10, after: After = None
) -> ListOut[CheckpointOut]:
    """The job's kept checkpoints, the newest first; each is a model of its own."""
    kept = [col(Checkpoint.job_id) == job_id, *checkpoints.listed()]
    async with rooms.db.read() as session:
        job = await owned_job(session, principal.project_id, job_id)
        page = await CHECKPOINTS.page(session, kept, Cursor(after, limit))
    return listed([checkpoint_out(job, checkpoint) for checkpoint in page.rows], page.has_more)


def _metadata_filter(request: Request) -> list[ColumnElement[bool]]:
    """From ``metadata[key]=value`` (OpenAI's deepObject) and ``metadata=null``. Raises ``InvalidRequest``."""
    found: list[ColumnElement[bool]] = []
    for name, value in request.query_params.multi_items():
        if match := _METADATA.fullmatch(name):
            found.append(_has(match[1], value))
        elif name == "metadata" and value == "null":
            found.append(col(Job.meta).is_(None))
        elif name.startswith("metadata"):
            raise InvalidRequest("Filter with metadata[key]=value, or metadata=null.", param="metadata")
    return found


def _has(key: str, value: str) -> ColumnElement[bool]:
    if not key.isprintable() or '"' in key or "\\" in key:
        # SQLite compares the key, as part of a JSON path, with the stored text, in which these stand escaped.
        raise InvalidRequest("A filter's metadata key is printable, without \" and \\.", param="metadata")
    return col(Job.meta)[key].as_string() == value  # type: ignore[no-any-return]

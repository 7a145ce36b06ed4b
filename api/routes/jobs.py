"""Fine-tuning jobs: made, watched, cancelled."""

from __future__ import annotations

import re

from fastapi import APIRouter
from sqlalchemy import ColumnElement, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col
from starlette.requests import Request

from api.creation import check_files, new_job
from api.deps import PrincipalDep, RoomsDep
from api.errors import InvalidRequest, NotFound, documented
from api.pages import CHECKPOINTS, EVENTS, JOBS, After, Cursor, Limit, ListOut, listed
from api.strict_json import StrictRoute
from api.wire.jobs import CheckpointOut, EventOut, JobIn, JobOut
from api.wire.present import checkpoint_out, event_out, job_out
from jobs import lifecycle
from storage.tables import Checkpoint, Event, Job

router = APIRouter(
    prefix="/fine_tuning/jobs", tags=["fine-tuning"], route_class=StrictRoute, responses=documented(404, 413)
)

_METADATA = re.compile(r"metadata\[(.{1,64})\]", re.DOTALL)


@router.post("")
async def create_fine_tuning_job(body: JobIn, rooms: RoomsDep, principal: PrincipalDep) -> JobOut:
    """Train a base model on an uploaded file. Rows are checked after this, in the state ``validating_files``."""
    job = await new_job(rooms, principal.project_id, body)
    async with rooms.db.write() as session:
        await check_files(session, job)
        await lifecycle.create(session, job)
    # After the commit: whoever hears the bell finds the row. A lost ring costs a worker's poll interval.
    await rooms.bell.ring(job.id, job.attempt)
    return job_out(job)


@router.get("")
async def list_fine_tuning_jobs(
    request: Request, rooms: RoomsDep, principal: PrincipalDep, limit: Limit = 20, after: After = None
) -> ListOut[JobOut]:
    """The project's jobs, the newest first; ``metadata[key]=value`` or ``metadata=null`` (those without) filters."""
    conditions = [col(Job.project_id) == principal.project_id, *_metadata_filter(request)]
    async with rooms.db.read() as session:
        page = await JOBS.page(session, conditions, Cursor(after, limit))
    return listed([job_out(job) for job in page.rows], page.has_more)


@router.get("/{job_id}")
async def retrieve_fine_tuning_job(job_id: str, rooms: RoomsDep, principal: PrincipalDep) -> JobOut:
    """One job: its state, progress and result."""
    async with rooms.db.read() as session:
        return job_out(await _owned(session, principal.project_id, job_id))


@router.post("/{job_id}/cancel")
async def cancel_fine_tuning_job(job_id: str, rooms: RoomsDep, principal: PrincipalDep) -> JobOut:
    """Cancel a job: at once while it waits, within seconds while it runs. A job that has ended is a 400."""
    async with rooms.db.write() as session:
        job = await lifecycle.cancel(session, principal.project_id, job_id)
    if job is None:
        raise _no_such_job()
    return job_out(job)


@router.get("/{job_id}/events")
async def list_fine_tuning_events(
    job_id: str, rooms: RoomsDep, principal: PrincipalDep, limit: Limit = 20, after: After = None
) -> ListOut[EventOut]:
    """What happened to the job, the newest first."""
    async with rooms.db.read() as session:
        await _owned(session, principal.project_id, job_id)
        page = await EVENTS.page(session, [col(Event.job_id) == job_id], Cursor(after, limit))
    return listed([event_out(event) for event in page.rows], page.has_more)


@router.get("/{job_id}/checkpoints")
async def list_fine_tuning_job_checkpoints(
    job_id: str, rooms: RoomsDep, principal: PrincipalDep, limit: Limit = 10, after: After = None
) -> ListOut[CheckpointOut]:
    """The job's kept checkpoints, the newest first; each is a model of its own."""
    kept = [col(Checkpoint.job_id) == job_id, col(Checkpoint.keep).is_(True)]
    async with rooms.db.read() as session:
        job = await _owned(session, principal.project_id, job_id)
        page = await CHECKPOINTS.page(session, kept, Cursor(after, limit))
    return listed([checkpoint_out(job, checkpoint) for checkpoint in page.rows], page.has_more)


async def _owned(session: AsyncSession, project_id: str, job_id: str) -> Job:
    query = select(Job).where(col(Job.id) == job_id, col(Job.project_id) == project_id)
    job = (await session.execute(query)).scalar_one_or_none()
    if job is None:
        raise _no_such_job()
    return job


def _no_such_job() -> NotFound:
    return NotFound("There is no such fine-tuning job for this key.", param="fine_tuning_job_id")


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

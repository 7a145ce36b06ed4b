"""Before a job: what is wrong with its files, what it would take, how its rows look. Nothing is created."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Depends
from starlette.requests import Request

from api.deps import PrincipalDep, RoomsDep
from api.errors import InvalidRequest, Unavailable, documented
from api.http.streaming import while_connected
from api.http.strict_json import StrictRoute
from api.schemas.fine_tuning.jobs import JobIn
from api.schemas.fine_tuning.preflight import PreflightOut, PreviewIn, PreviewOut, preflight_out
from api.services.job_creation import check_files, new_job
from jobs.preflight import SECONDS, Desk, LookCrashed, TooBusy, TooSlow, earlier_speeds
from jobs.resources import Resources
from storage.access.keys import Principal
from storage.errors import BlobCorrupt, BlobNotFound
from storage.tables import Job
from training.run_events import Failure

router = APIRouter(prefix="/fine_tuning", tags=["fine-tuning"], route_class=StrictRoute, responses=documented(413))

Found = TypeVar("Found")


def desk_of(request: Request) -> Desk:
    desk: Desk = request.app.state.desk
    return desk


DeskDep = Annotated[Desk, Depends(desk_of)]


@router.post("/jobs:preflight")
async def preflight_fine_tuning_job(
    body: JobIn, request: Request, rooms: RoomsDep, principal: PrincipalDep, desk: DeskDep
) -> PreflightOut:
    """What a job with this body would meet: every fault of its rows, its steps, tokens, hyperparameters, time and
    memory. Nothing is created. What ``POST /v1/fine_tuning/jobs`` refuses is refused here, too."""
    job = await _job(rooms, principal, body)
    found = await _looked(request, desk.preflight(rooms, job))
    return preflight_out(job, found, await earlier_speeds(rooms, job))


@router.post("/jobs:preview")
async def preview_fine_tuning_rows(
    body: PreviewIn, request: Request, rooms: RoomsDep, principal: PrincipalDep, desk: DeskDep
) -> PreviewOut:
    """The first rows of the training file as training sees them: token by token, and which of them are learnt."""
    job = await _job(rooms, principal, body)
    found = await _looked(request, desk.preview(rooms, job, body.rows))
    if isinstance(found, Failure):
        raise InvalidRequest(found.message, param=found.param, code=found.code)
    return PreviewOut(data=found, model=job.base_model, task=job.task)


async def _job(rooms: Resources, principal: Principal, body: JobIn) -> Job:
    """The row that is never inserted. Raises what creating it would."""
    job = await new_job(rooms, principal.project_id, body)
    async with rooms.db.read() as session:
        await check_files(session, job)
    return job


async def _looked(request: Request, work: Coroutine[Any, Any, Found]) -> Found:
    """A client that leaves takes the child with it."""
    try:
        return await while_connected(request, work)
    except TooBusy:
        raise Unavailable("Other files are being looked at; try again shortly.", code="preflight_busy") from None
    except TooSlow:
        raise InvalidRequest(
            f"The files could not be read within {SECONDS:.0f} seconds. Create the job with 'auto_start': false "
            "instead: it validates them without a limit and waits for you.",
            code="preflight_timeout",
            headers={"x-should-retry": "false"},
        ) from None
    except LookCrashed:
        raise Unavailable("The look at the files ended unexpectedly; try again.", code="preflight_failed") from None
    except (BlobCorrupt, BlobNotFound):
        raise InvalidRequest(
            "The bytes of a file are missing or damaged; upload it anew.", param="training_file", code="file_damaged"
        ) from None

"""Before a job: what is wrong with its files, what it would take, how its rows look. Nothing is created."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Depends
from starlette.requests import Request

from api.deps import PrincipalDep, ResourcesDep
from api.errors import InvalidRequest, ServiceUnavailable, error_responses
from api.http.strict_json import StrictRoute
from api.schemas.fine_tuning.jobs import JobIn
from api.schemas.fine_tuning.preflight import PreflightOut, PreviewIn, PreviewOut, to_preflight_out
from api.services.job_creation import build_job, check_files
from inference.protocol.disconnect import cancel_on_disconnect
from jobs.preflight import (
    TIMEOUT_SECONDS,
    PreflightBusy,
    PreflightCrashed,
    PreflightRunner,
    PreflightTimeout,
    load_recent_speeds,
)
from jobs.resources import Resources
from storage.access.keys import Principal
from storage.errors import BlobCorrupt, BlobNotFound
from storage.tables import Job
from training.run_events import Failure

router = APIRouter(prefix="/fine_tuning", tags=["fine-tuning"], route_class=StrictRoute, responses=error_responses(413))

Result = TypeVar("Result")


def get_preflight_runner(request: Request) -> PreflightRunner:
    desk: PreflightRunner = request.app.state.preflight_runner
    return desk


PreflightRunnerDep = Annotated[PreflightRunner, Depends(get_preflight_runner)]


@router.post("/jobs:preflight")
async def preflight_fine_tuning_job(
    body: JobIn, request: Request, resources: ResourcesDep, principal: PrincipalDep, runner: PreflightRunnerDep
) -> PreflightOut:
    """What a job with this body would meet: every fault of its rows, its steps, tokens, hyperparameters, time and
    memory. Nothing is created. What ``POST /v1/fine_tuning/jobs`` refuses is refused here, too."""
    job = await _build_job(resources, principal, body)
    found = await _run_preflight(request, runner.preflight(resources, job))
    return to_preflight_out(job, found, await load_recent_speeds(resources, job))


@router.post("/jobs:preview")
async def preview_fine_tuning_rows(
    body: PreviewIn, request: Request, resources: ResourcesDep, principal: PrincipalDep, runner: PreflightRunnerDep
) -> PreviewOut:
    """The first rows of the training file as training sees them: token by token, and which of them are learnt."""
    job = await _build_job(resources, principal, body)
    found = await _run_preflight(request, runner.preview(resources, job, body.rows))
    if isinstance(found, Failure):
        raise InvalidRequest(found.message, param=found.param, code=found.code)
    return PreviewOut(data=found, model=job.base_model, task=job.task)


async def _build_job(resources: Resources, principal: Principal, body: JobIn) -> Job:
    """The row that is never inserted. Raises what creating it would."""
    job = await build_job(resources, principal.project_id, body)
    async with resources.db.read() as session:
        await check_files(session, job)
    return job


async def _run_preflight(request: Request, work: Coroutine[Any, Any, Result]) -> Result:
    """A client that leaves takes the child with it."""
    try:
        return await cancel_on_disconnect(request, work)
    except PreflightBusy:
        raise ServiceUnavailable("Other files are being looked at; try again shortly.", code="preflight_busy") from None
    except PreflightTimeout:
        raise InvalidRequest(
            f"The files could not be read within {TIMEOUT_SECONDS:.0f} seconds. Create the job with 'auto_start': false "
            "instead: it validates them without a limit and waits for you.",
            code="preflight_timeout",
            headers={"x-should-retry": "false"},
        ) from None
    except PreflightCrashed:
        raise ServiceUnavailable(
            "The look at the files ended unexpectedly; try again.", code="preflight_failed"
        ) from None
    except (BlobCorrupt, BlobNotFound):
        raise InvalidRequest(
            "The bytes of a file are missing or damaged; upload it anew.", param="training_file", code="file_damaged"
        ) from None

"""Routes that check a job without creating it: errors in its files, its cost, its rows."""

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
    runner: PreflightRunner = request.app.state.preflight_runner
    return runner


PreflightRunnerDep = Annotated[PreflightRunner, Depends(get_preflight_runner)]


@router.post("/jobs:preflight")
async def preflight_fine_tuning_job(
    body: JobIn, request: Request, resources: ResourcesDep, principal: PrincipalDep, runner: PreflightRunnerDep
) -> PreflightOut:
    """Check a job without creating it.

    Reports the errors in its files, and its steps, tokens, hyperparameters, time and memory. A body
    that ``POST /v1/fine_tuning/jobs`` rejects is rejected here, too.
    """
    job = await _build_job(resources, principal, body)
    result = await _run_preflight(request, runner.preflight(resources, job))
    return to_preflight_out(job, result, await load_recent_speeds(resources, job))


@router.post("/jobs:preview")
async def preview_fine_tuning_rows(
    body: PreviewIn, request: Request, resources: ResourcesDep, principal: PrincipalDep, runner: PreflightRunnerDep
) -> PreviewOut:
    """Preview the first rows of the training file: their tokens, and which ones are trained on."""
    job = await _build_job(resources, principal, body)
    result = await _run_preflight(request, runner.preview(resources, job, body.rows))
    if isinstance(result, Failure):
        raise InvalidRequest(result.message, param=result.param, code=result.code)
    return PreviewOut(data=result, model=job.base_model, task=job.task)


async def _build_job(resources: Resources, principal: Principal, body: JobIn) -> Job:
    """Build a job's row that is never inserted. Raises the same errors as creating the job."""
    job = await build_job(resources, principal.project_id, body)
    async with resources.db.read() as session:
        await check_files(session, job)
    return job


async def _run_preflight(request: Request, work: Coroutine[Any, Any, Result]) -> Result:
    """Run the work. If the client disconnects, its process is stopped."""
    try:
        return await cancel_on_disconnect(request, work)
    except PreflightBusy:
        raise ServiceUnavailable("Other preflights are running; try again shortly.", code="preflight_busy") from None
    except PreflightTimeout:
        raise InvalidRequest(
            f"The files could not be read within {TIMEOUT_SECONDS:.0f} seconds. Create the job with "
            "'auto_start': false instead: it validates them without a time limit and waits for 'start'.",
            code="preflight_timeout",
            headers={"x-should-retry": "false"},
        ) from None
    except PreflightCrashed:
        raise ServiceUnavailable("The preflight ended unexpectedly; try again.", code="preflight_failed") from None
    except (BlobCorrupt, BlobNotFound):
        raise InvalidRequest(
            "The bytes of a file are missing or damaged; upload it again.", param="training_file", code="file_damaged"
        ) from None

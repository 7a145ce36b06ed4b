"""Fine-tuning jobs: create, follow and control them."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Unpack

from luthier._async.files import AsyncFiles
from luthier._async.http import AsyncHTTP, build_path, drop_none
from luthier._async.job import AsyncJob
from luthier._async.streams import reconnecting_events
from luthier._concurrency import async_sleep
from luthier._display import Display, choose_display
from luthier._fields import JobFields
from luthier.errors import APIConnectionError, InternalServerError, JobFailedError, WaitTimeoutError
from luthier.types import Checkpoint, Event

MAX_UNREACHABLE_SECONDS = 120.0
"""Time that ``wait`` tolerates a server that does not respond."""
LOSS_RESOLUTION = 500
"""Maximum number of steps per request for losses in ``wait``."""
METRICS_PAGE_SIZE = 1000
"""Steps per request when reading all metrics."""

StepMetrics = list[dict[str, Any]]


class AsyncJobs:
    """Fine-tuning jobs of the project, available as ``client.jobs``."""

    def __init__(self, http: AsyncHTTP, files: AsyncFiles) -> None:
        self._http, self._files = http, files

    async def create(self, **fields: Unpack[JobFields]) -> AsyncJob:
        """Create a job that trains a model on a file.

        The fields are those of ``JobFields``. A file is either a file id or a
        ``pathlib.Path``, which is uploaded first. The request is idempotent: a retry after a lost
        response creates no second job.
        """
        return self._to_job(
            await self._http.request_json("POST", _build_jobs_path(), json=await self._build_body(fields))
        )

    async def list(self, *, metadata: dict[str, str] | None = None) -> AsyncIterator[AsyncJob]:
        """List the project's jobs, newest first.

        ``metadata`` selects the jobs that have these pairs.
        """
        filters = {f"metadata[{name}]": value for name, value in (metadata or {}).items()}
        async for item in self._http.iter_items(_build_jobs_path(), **filters):
            yield self._to_job(item)

    async def retrieve(self, job_id: str) -> AsyncJob:
        """Return a job with its state, progress and result."""
        return self._to_job(await self._http.request_json("GET", _build_jobs_path(job_id)))

    async def cancel(self, job_id: str) -> AsyncJob:
        """Cancel a job. A waiting job ends immediately, a running job within seconds."""
        return await self._post_action(job_id, "cancel")

    async def pause(self, job_id: str) -> AsyncJob:
        """Pause a job. A running job saves a checkpoint and releases its slot to other jobs."""
        return await self._post_action(job_id, "pause")

    async def resume(self, job_id: str) -> AsyncJob:
        """Resume a paused job from where it stopped."""
        return await self._post_action(job_id, "resume")

    async def start(self, job_id: str) -> AsyncJob:
        """Start a job that was created with ``auto_start=False``."""
        return await self._post_action(job_id, "start")

    async def clone(self, job_id: str, **changes: Unpack[JobFields]) -> AsyncJob:
        """Create a new job with the fields of another, except for ``changes``."""
        return self._to_job(
            await self._http.request_json(
                "POST", _build_jobs_path(job_id, "clone"), json=await self._build_body(changes)
            )
        )

    async def events(self, job_id: str) -> AsyncIterator[Event]:
        """List a job's events, newest first."""
        async for item in self._http.iter_items(_build_jobs_path(job_id, "events")):
            yield Event.from_dict(item)

    async def checkpoints(self, job_id: str) -> AsyncIterator[Checkpoint]:
        """List a job's checkpoints, newest first. Each is a model that can be used in requests."""
        async for item in self._http.iter_items(_build_jobs_path(job_id, "checkpoints")):
            yield Checkpoint.from_dict(item)

    async def metrics(
        self, job_id: str, *, step_from: int = 0, step_to: int | None = None, resolution: int | None = None
    ) -> StepMetrics:
        """Return the metrics of each step, oldest first.

        ``step_from`` and ``step_to`` select a range of steps. ``resolution`` returns about that
        many evenly spaced steps.
        """
        params = drop_none(
            {"step_from": step_from, "step_to": step_to, "resolution": resolution, "limit": METRICS_PAGE_SIZE}
        )
        steps: StepMetrics = []
        while True:
            page = await self._http.request_json("GET", _build_jobs_path(job_id, "metrics"), params=params)
            steps.extend(page["data"])
            if not page["has_more"]:
                return steps
            params["step_from"] = steps[-1]["step"] + 1

    async def stream_metrics(self, job_id: str) -> AsyncIterator[dict[str, Any]]:
        """Stream the metrics of each step, from the first step until the job ends.

        The stream reconnects after a broken connection and continues with the next step.
        """
        async for metrics in reconnecting_events(self._http, _build_jobs_path(job_id, "metrics", "stream")):
            yield metrics

    async def wait(
        self, job: AsyncJob, *, timeout: float | None = None, poll: float = 1.0, display: Display | None = None
    ) -> AsyncJob:
        """Wait until a job ends. See ``Job.wait``."""
        progress_display, losses = display or choose_display(), _LossHistory(self)
        began = last_response_at = time.monotonic()
        try:
            while True:
                try:
                    await job.refresh()
                    if progress_display.shows_losses:
                        await losses.fetch_new(job)
                    progress_display.update(job, losses.values)
                    last_response_at = time.monotonic()
                except (APIConnectionError, InternalServerError):
                    if time.monotonic() - last_response_at > MAX_UNREACHABLE_SECONDS:
                        raise
                if job.ended:
                    break
                if timeout is not None and time.monotonic() - began > timeout:
                    raise WaitTimeoutError(f"{job.id} did not end within {timeout:g} s; it is still {job.state}.")
                await async_sleep(poll)
        finally:
            progress_display.close()
        if job.status != "succeeded":
            raise JobFailedError(job)
        return job

    async def _post_action(self, job_id: str, verb: str) -> AsyncJob:
        return self._to_job(await self._http.request_json("POST", _build_jobs_path(job_id, verb)))

    async def _build_body(self, fields: JobFields) -> dict[str, Any]:
        body: dict[str, Any] = dict(fields)
        for name, value in body.items():
            if isinstance(value, Path):
                file = await self._files.upload(value)
                body[name] = file.id
        return body

    def _to_job(self, data: dict[str, Any]) -> AsyncJob:
        job = AsyncJob.from_dict(data)
        job.jobs = self
        return job


class _LossHistory:
    """Training losses of a job. Each fetch requests only the new ones."""

    def __init__(self, jobs: AsyncJobs) -> None:
        self._jobs, self._next_step = jobs, 0
        self.values: list[float] = []

    async def fetch_new(self, job: AsyncJob) -> None:
        steps = await self._jobs.metrics(job.id, step_from=self._next_step, resolution=LOSS_RESOLUTION)
        self.values.extend(step["train_loss"] for step in steps)
        self._next_step = steps[-1]["step"] + 1 if steps else self._next_step


def _build_jobs_path(*parts: str) -> str:
    return build_path("fine_tuning", "jobs", *parts)

"""Fine-tuning jobs: made, followed, steered."""

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
"""How long ``wait`` goes on asking a server that does not answer."""
LOSS_RESOLUTION = 500
"""Of how many steps ``wait`` asks for the losses at once."""
METRICS_PAGE_SIZE = 1000
"""Steps asked for at once while all are read."""

StepMetrics = list[dict[str, Any]]


class AsyncJobs:
    """``client.jobs``."""

    def __init__(self, http: AsyncHTTP, files: AsyncFiles) -> None:
        self._http, self._files = http, files

    async def create(self, **fields: Unpack[JobFields]) -> AsyncJob:
        """Train a base model on a file. The fields are those of ``POST /v1/fine_tuning/jobs``.

        A file may be named by its id, or be a ``pathlib.Path``, which is uploaded first. Sent again after a lost
        answer, it makes one job all the same.
        """
        return self._to_job(
            await self._http.request_json("POST", _build_jobs_path(), json=await self._build_body(fields))
        )

    async def list(self, *, metadata: dict[str, str] | None = None) -> AsyncIterator[AsyncJob]:
        """The project's jobs, the newest first; those with these metadata."""
        having = {f"metadata[{name}]": value for name, value in (metadata or {}).items()}
        async for item in self._http.iter_items(_build_jobs_path(), **having):
            yield self._to_job(item)

    async def retrieve(self, job_id: str) -> AsyncJob:
        """One job: its state, progress and result."""
        return self._to_job(await self._http.request_json("GET", _build_jobs_path(job_id)))

    async def cancel(self, job_id: str) -> AsyncJob:
        """Cancel a job: at once while it waits, within seconds while it runs."""
        return await self._post_action(job_id, "cancel")

    async def pause(self, job_id: str) -> AsyncJob:
        """Pause a job: it saves where it is and gives its place to others."""
        return await self._post_action(job_id, "pause")

    async def resume(self, job_id: str) -> AsyncJob:
        """Let a paused job go on from where it was."""
        return await self._post_action(job_id, "resume")

    async def start(self, job_id: str) -> AsyncJob:
        """Start a job that was made with ``auto_start=False``."""
        return await self._post_action(job_id, "start")

    async def clone(self, job_id: str, **changes: Unpack[JobFields]) -> AsyncJob:
        """A new job as this one was, but for the changes."""
        return self._to_job(
            await self._http.request_json(
                "POST", _build_jobs_path(job_id, "clone"), json=await self._build_body(changes)
            )
        )

    async def events(self, job_id: str) -> AsyncIterator[Event]:
        """What happened to the job, the newest first."""
        async for item in self._http.iter_items(_build_jobs_path(job_id, "events")):
            yield Event.from_dict(item)

    async def checkpoints(self, job_id: str) -> AsyncIterator[Checkpoint]:
        """The job's checkpoints, the newest first; each is a model of its own."""
        async for item in self._http.iter_items(_build_jobs_path(job_id, "checkpoints")):
            yield Checkpoint.from_dict(item)

    async def metrics(
        self, job_id: str, *, step_from: int = 0, step_to: int | None = None, resolution: int | None = None
    ) -> StepMetrics:
        """What was measured at each step, the first first; about ``resolution`` of the steps, evenly spread."""
        params = drop_none(
            {"step_from": step_from, "step_to": step_to, "resolution": resolution, "limit": METRICS_PAGE_SIZE}
        )
        measured: StepMetrics = []
        while True:
            answer = await self._http.request_json("GET", _build_jobs_path(job_id, "metrics"), params=params)
            measured.extend(answer["data"])
            if not answer["has_more"]:
                return measured
            params["step_from"] = measured[-1]["step"] + 1

    async def stream_metrics(self, job_id: str) -> AsyncIterator[dict[str, Any]]:
        """Each step as it is measured, from the first to the job's end; goes on where a connection broke."""
        async for measured in reconnecting_events(self._http, _build_jobs_path(job_id, "metrics", "stream")):
            yield measured

    async def wait(
        self, job: AsyncJob, *, timeout: float | None = None, poll: float = 1.0, display: Display | None = None
    ) -> AsyncJob:
        """See ``Job.wait``."""
        shown, losses = display or choose_display(), _LossHistory(self)
        began = heard = time.monotonic()
        try:
            while True:
                try:
                    await job.refresh()
                    if shown.shows_losses:
                        await losses.fetch_new(job)
                    shown.update(job, losses.values)
                    heard = time.monotonic()
                except (APIConnectionError, InternalServerError):
                    if time.monotonic() - heard > MAX_UNREACHABLE_SECONDS:
                        raise
                if job.ended:
                    break
                if timeout is not None and time.monotonic() - began > timeout:
                    raise WaitTimeoutError(f"{job.id} is {job.state} after {timeout:g} s; it goes on.")
                await async_sleep(poll)
        finally:
            shown.close()
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
    """The losses of a job's training, of which each reading asks for the new ones only."""

    def __init__(self, jobs: AsyncJobs) -> None:
        self._jobs, self._next_step = jobs, 0
        self.values: list[float] = []

    async def fetch_new(self, job: AsyncJob) -> None:
        measured = await self._jobs.metrics(job.id, step_from=self._next_step, resolution=LOSS_RESOLUTION)
        self.values.extend(step["train_loss"] for step in measured)
        self._next_step = measured[-1]["step"] + 1 if measured else self._next_step


def _build_jobs_path(*parts: str) -> str:
    return build_path("fine_tuning", "jobs", *parts)

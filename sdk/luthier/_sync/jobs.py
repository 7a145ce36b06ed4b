# Made by `make sdk` from _async/jobs.py; change that one.
"""Fine-tuning jobs: made, followed, steered."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Unpack

from luthier._concurrency import sleep
from luthier._display import Display, choose_display
from luthier._fields import JobFields
from luthier._sync.files import Files
from luthier._sync.http import HTTP, build_path, drop_none
from luthier._sync.job import Job
from luthier._sync.streams import reconnecting_events
from luthier.errors import APIConnectionError, InternalServerError, JobFailedError, WaitTimeoutError
from luthier.types import Checkpoint, Event

MAX_UNREACHABLE_SECONDS = 120.0
"""How long ``wait`` goes on asking a server that does not answer."""
LOSS_RESOLUTION = 500
"""Of how many steps ``wait`` asks for the losses at once."""
METRICS_PAGE_SIZE = 1000
"""Steps asked for at once while all are read."""

StepMetrics = list[dict[str, Any]]


class Jobs:
    """``client.jobs``."""

    def __init__(self, http: HTTP, files: Files) -> None:
        self._http, self._files = http, files

    def create(self, **fields: Unpack[JobFields]) -> Job:
        """Train a base model on a file. The fields are those of ``POST /v1/fine_tuning/jobs``.

        A file may be named by its id, or be a ``pathlib.Path``, which is uploaded first. Sent again after a lost
        answer, it makes one job all the same.
        """
        return self._to_job(self._http.request_json("POST", _build_jobs_path(), json=self._build_body(fields)))

    def list(self, *, metadata: dict[str, str] | None = None) -> Iterator[Job]:
        """The project's jobs, the newest first; those with these metadata."""
        having = {f"metadata[{name}]": value for name, value in (metadata or {}).items()}
        for item in self._http.iter_items(_build_jobs_path(), **having):
            yield self._to_job(item)

    def retrieve(self, job_id: str) -> Job:
        """One job: its state, progress and result."""
        return self._to_job(self._http.request_json("GET", _build_jobs_path(job_id)))

    def cancel(self, job_id: str) -> Job:
        """Cancel a job: at once while it waits, within seconds while it runs."""
        return self._post_action(job_id, "cancel")

    def pause(self, job_id: str) -> Job:
        """Pause a job: it saves where it is and gives its place to others."""
        return self._post_action(job_id, "pause")

    def resume(self, job_id: str) -> Job:
        """Let a paused job go on from where it was."""
        return self._post_action(job_id, "resume")

    def start(self, job_id: str) -> Job:
        """Start a job that was made with ``auto_start=False``."""
        return self._post_action(job_id, "start")

    def clone(self, job_id: str, **changes: Unpack[JobFields]) -> Job:
        """A new job as this one was, but for the changes."""
        return self._to_job(
            self._http.request_json("POST", _build_jobs_path(job_id, "clone"), json=self._build_body(changes))
        )

    def events(self, job_id: str) -> Iterator[Event]:
        """What happened to the job, the newest first."""
        for item in self._http.iter_items(_build_jobs_path(job_id, "events")):
            yield Event.from_dict(item)

    def checkpoints(self, job_id: str) -> Iterator[Checkpoint]:
        """The job's checkpoints, the newest first; each is a model of its own."""
        for item in self._http.iter_items(_build_jobs_path(job_id, "checkpoints")):
            yield Checkpoint.from_dict(item)

    def metrics(
        self, job_id: str, *, step_from: int = 0, step_to: int | None = None, resolution: int | None = None
    ) -> StepMetrics:
        """What was measured at each step, the first first; about ``resolution`` of the steps, evenly spread."""
        params = drop_none(
            {"step_from": step_from, "step_to": step_to, "resolution": resolution, "limit": METRICS_PAGE_SIZE}
        )
        measured: StepMetrics = []
        while True:
            answer = self._http.request_json("GET", _build_jobs_path(job_id, "metrics"), params=params)
            measured.extend(answer["data"])
            if not answer["has_more"]:
                return measured
            params["step_from"] = measured[-1]["step"] + 1

    def stream_metrics(self, job_id: str) -> Iterator[dict[str, Any]]:
        """Each step as it is measured, from the first to the job's end; goes on where a connection broke."""
        for measured in reconnecting_events(self._http, _build_jobs_path(job_id, "metrics", "stream")):
            yield measured

    def wait(self, job: Job, *, timeout: float | None = None, poll: float = 1.0, display: Display | None = None) -> Job:
        """See ``Job.wait``."""
        shown, losses = display or choose_display(), _LossHistory(self)
        began = heard = time.monotonic()
        try:
            while True:
                try:
                    job.refresh()
                    if shown.shows_losses:
                        losses.fetch_new(job)
                    shown.update(job, losses.values)
                    heard = time.monotonic()
                except (APIConnectionError, InternalServerError):
                    if time.monotonic() - heard > MAX_UNREACHABLE_SECONDS:
                        raise
                if job.ended:
                    break
                if timeout is not None and time.monotonic() - began > timeout:
                    raise WaitTimeoutError(f"{job.id} is {job.state} after {timeout:g} s; it goes on.")
                sleep(poll)
        finally:
            shown.close()
        if job.status != "succeeded":
            raise JobFailedError(job)
        return job

    def _post_action(self, job_id: str, verb: str) -> Job:
        return self._to_job(self._http.request_json("POST", _build_jobs_path(job_id, verb)))

    def _build_body(self, fields: JobFields) -> dict[str, Any]:
        body: dict[str, Any] = dict(fields)
        for name, value in body.items():
            if isinstance(value, Path):
                file = self._files.upload(value)
                body[name] = file.id
        return body

    def _to_job(self, data: dict[str, Any]) -> Job:
        job = Job.from_dict(data)
        job.jobs = self
        return job


class _LossHistory:
    """The losses of a job's training, of which each reading asks for the new ones only."""

    def __init__(self, jobs: Jobs) -> None:
        self._jobs, self._next_step = jobs, 0
        self.values: list[float] = []

    def fetch_new(self, job: Job) -> None:
        measured = self._jobs.metrics(job.id, step_from=self._next_step, resolution=LOSS_RESOLUTION)
        self.values.extend(step["train_loss"] for step in measured)
        self._next_step = measured[-1]["step"] + 1 if measured else self._next_step


def _build_jobs_path(*parts: str) -> str:
    return build_path("fine_tuning", "jobs", *parts)

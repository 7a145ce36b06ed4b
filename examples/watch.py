"""Helpers that follow a job through the API: upload, progress bar, sparkline of the loss."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from openai import OpenAI
from openai.types.fine_tuning import FineTuningJob
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

BLOCKS = "▁▂▃▄▅▆▇█"
POLL_SECONDS = 0.25


@dataclass(frozen=True)
class JobSummary:
    """Summary of a job that has succeeded."""

    job_id: str
    model: str
    losses: list[float]
    first_step_seconds: float
    """Seconds from ``POST`` to the start of the first forward pass."""
    seconds: float
    """Seconds from ``POST`` to the end of the job."""

    def to_dict(self) -> dict[str, Any]:
        return {
            "job": self.job_id,
            "model": self.model,
            "first_loss": self.losses[0],
            "last_loss": self.losses[-1],
            "first_step_s": round(self.first_step_seconds, 2),
            "job_s": round(self.seconds, 2),
        }


def upload(client: OpenAI, path: Path) -> str:
    with path.open("rb") as file:
        return client.files.create(file=file, purpose="fine-tune").id


def watch(
    client: OpenAI, job_id: str, console: Console, posted_at: float, poll_seconds: float = POLL_SECONDS
) -> JobSummary:
    """Show a progress bar until the job ends, and return its summary.

    ``posted_at`` is ``time.time()`` before the ``POST``. Raises ``SystemExit`` with the job's error
    if it does not succeed.
    """
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total} steps  {task.fields[note]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("validating_files", total=None, note="")
        while True:
            job = client.fine_tuning.jobs.retrieve(job_id)
            progress: dict[str, Any] = (job.model_extra or {}).get("progress") or {}
            bar.update(
                task,
                description=job.status,
                total=progress.get("total_steps"),
                completed=progress.get("step") or 0,
                note=_format_latest_loss(client, job) if job.status == "running" else "",
            )
            if job.finished_at or job.status in {"succeeded", "failed", "cancelled"}:
                break
            time.sleep(poll_seconds)
    if job.status != "succeeded" or job.fine_tuned_model is None:
        raise SystemExit(f"{job.id} {job.status}: {job.error.message if job.error else 'no reason given'}")
    seconds = time.time() - posted_at
    events = list(client.fine_tuning.jobs.list_events(job.id, limit=100))
    event_data: list[Any] = [event.data for event in reversed(events)]
    losses = [data["train_loss"] for data in event_data if data and "train_loss" in data]
    started = next(data["at"] for data in event_data if data and "at" in data)
    return JobSummary(job.id, job.fine_tuned_model, losses, started - posted_at, seconds)


def _format_latest_loss(client: OpenAI, job: FineTuningJob) -> str:
    events = client.fine_tuning.jobs.list_events(job.id, limit=1).data
    data: Any = events[0].data if events else None
    return f"loss {data['train_loss']:.3f}" if data and "train_loss" in data else ""


def format_sparkline(values: list[float], width: int = 48) -> str:
    """Render the values as one line of blocks. Each block is the mean of its part of the values."""
    size = max(1, len(values) // width)
    means = [sum(chunk) / len(chunk) for chunk in (values[i : i + size] for i in range(0, len(values), size))]
    low, high = min(means), max(means)
    return "".join(BLOCKS[int((mean - low) / ((high - low) or 1.0) * (len(BLOCKS) - 1))] for mean in means)

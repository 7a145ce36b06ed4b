"""Result files of a finished job: metrics per step, for spreadsheets and for TensorBoard."""

from __future__ import annotations

import asyncio
import csv
import io
import time
from typing import Any

from sqlalchemy import select
from sqlmodel import col

from jobs.blob_keys import attempt_prefix
from jobs.lifecycle.transitions import Claim
from jobs.metrics.scalars import load_scalars
from jobs.metrics.tfevents import encode_event_file
from jobs.resources import Resources
from storage.ids import new_id
from storage.tables import File, Job, Metric


async def store_result_files(resources: Resources, claim: Claim, job: Job) -> list[File]:
    """Store the result files and return their rows, not yet inserted.

    OpenAI's clients read the first file as CSV.
    """
    steps = [scalars for _, scalars in await load_scalars(resources, job.id)]
    events = await asyncio.to_thread(encode_event_file, job.created_at, steps)
    # TensorBoard recognizes its files by this prefix.
    contents = {
        "step_metrics.csv": await build_result_csv(resources, job),
        f"events.out.tfevents.{int(job.created_at)}.luthier": events,
    }
    return [await _store_file(resources, claim, job, filename, data) for filename, data in contents.items()]


async def _store_file(resources: Resources, claim: Claim, job: Job, filename: str, data: bytes) -> File:
    key = f"{attempt_prefix(job, claim.attempt)}/{filename}"
    stored = await resources.blob_threads.run(resources.blobs.put_bytes, key, data)
    return File(
        id=new_id("file"),
        project_id=job.project_id,
        created_at=time.time(),
        filename=filename,
        purpose="fine-tune-results",
        bytes=stored.size,
        sha256=stored.sha256,
        blob_key=key,
    )


CSV_COLUMNS = {
    "step": "step",
    "train_loss": "train_loss",
    "train_accuracy": "train_accuracy",
    "valid_loss": "valid_loss",
    "valid_mean_token_accuracy": "valid_accuracy",
    "train_mean_token_accuracy": "train_accuracy",
    "full_valid_loss": "valid_loss",
    "full_valid_mean_token_accuracy": "valid_accuracy",
    "learning_rate": "learning_rate",
    "grad_norm": "grad_norm",
    "general_loss": "general_loss",
    "tokens": "tokens",
}
"""Column of the result file -> field of a metrics row.

OpenAI's columns come first in OpenAI's order, then Azure's, then ours.
"""


async def build_result_csv(resources: Resources, job: Job) -> bytes:
    """Build the ``fine-tune-results`` file: one line per recorded step.

    The task's own metrics follow the fixed columns as ``valid_…`` columns.
    """
    async with resources.db.read() as session:
        query = select(col(Metric.data)).where(col(Metric.job_id) == job.id).order_by(col(Metric.step))
        steps: list[dict[str, Any]] = list((await session.execute(query)).scalars())
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    measures = list(dict.fromkeys(name for step in steps for name in step["measures"]))
    writer.writerow([*CSV_COLUMNS, *(f"valid_{name}" for name in measures)])
    writer.writerows(
        [*(step[field] for field in CSV_COLUMNS.values()), *(step["measures"].get(name) for name in measures)]
        for step in steps
    )
    return text.getvalue().encode()

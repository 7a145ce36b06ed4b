"""The files that a finished job leaves beside its model: the figures of its steps, for spreadsheets and TensorBoard."""

from __future__ import annotations

import asyncio
import time

from jobs.lifecycle.transitions import Claim
from jobs.metrics.scalars import measured
from jobs.metrics.tfevents import event_file
from jobs.resources import Rooms
from jobs.runner.staging import attempt_prefix, result_csv
from storage.ids import new_id
from storage.tables import File, Job


async def result_files(rooms: Rooms, claim: Claim, job: Job) -> list[File]:
    """Their rows to be; the bytes are stored. OpenAI's clients read the first as CSV."""
    steps = [scalars for _, scalars in await measured(rooms, job.id)]
    events = await asyncio.to_thread(event_file, job.created_at, steps)
    # TensorBoard knows its files by this beginning.
    made = {
        "step_metrics.csv": await result_csv(rooms, job),
        f"events.out.tfevents.{int(job.created_at)}.luthier": events,
    }
    return [await _stored(rooms, claim, job, filename, data) for filename, data in made.items()]


async def _stored(rooms: Rooms, claim: Claim, job: Job, filename: str, data: bytes) -> File:
    key = f"{attempt_prefix(job, claim.attempt)}/{filename}"
    stored = await asyncio.to_thread(rooms.blobs.put_bytes, key, data)
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

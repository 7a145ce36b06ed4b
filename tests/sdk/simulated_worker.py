"""Simulated worker that writes the same rows as a worker, so that a job ends within moments."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Event as Flag

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from jobs.metrics.wire_format import to_wire_metrics
from storage import db as databases
from storage.ids import new_id
from storage.tables import Event, Job, Metric, Model
from tests.api.stack import FAKE_SHA256, Stack

TOTAL_STEPS = 4


async def advance_jobs(session: AsyncSession, project_id: str, fail: bool) -> None:
    """Advance every job of the project by one state or step."""
    waiting = ["validating_files", "validating", "queued", "running"]
    conditions = [col(Job.project_id) == project_id, col(Job.state).in_(waiting)]
    for job in (await session.execute(select(Job).where(*conditions))).scalars():
        if job.state != "running":
            job.state, job.attempt = "running", 1
            job.progress = {"step": 0, "total_steps": TOTAL_STEPS, "epoch": 0.0, "tokens_per_second": 9.0, "eta": 8.0}
        elif job.progress and job.progress["step"] < TOTAL_STEPS:
            step = job.progress["step"] + 1
            job.progress = {**job.progress, "step": step}
            add_metrics(session, job, step)
        elif fail:
            job.state, job.finished_at = "failed", time.time()
            job.error = {"code": "too_few_rows", "message": "Give it 10 rows.", "param": "training_file"}
        else:
            job.state, job.finished_at = "succeeded", time.time()
            job.fine_tuned_model = f"ft:{job.base_model}:luthier:{job.suffix or ''}:{job.id[-8:]}"
            session.add(_build_model(job))


def add_metrics(session: AsyncSession, job: Job, step: int) -> None:
    """Write the rows that a worker writes for the metrics of a step."""
    data = {
        "type": "metrics",
        "step": step,
        "total_steps": TOTAL_STEPS,
        "epoch": step / TOTAL_STEPS,
        "learning_rate": 0.001,
        "train_loss": 2.0 / step,
        "train_accuracy": None,
        "valid_loss": None,
        "valid_accuracy": None,
        "measures": {},
    }
    session.add(Metric(job_id=job.id, step=step, attempt=1, data=data))
    event = Event(
        id=new_id("event"),
        job_id=job.id,
        # Lower numbers are free for the events that the server writes.
        seq=100 + step,
        attempt=1,
        created_at=time.time(),
        level="info",
        message=f"step {step}/{TOTAL_STEPS}",
        type="metrics",
        data=to_wire_metrics(data),
    )
    session.add(event)


def _build_model(job: Job) -> Model:
    assert job.fine_tuned_model is not None
    return Model(
        id=job.fine_tuned_model,
        project_id=job.project_id,
        job_id=job.id,
        created_at=time.time(),
        base_model=job.base_model,
        task=job.task,
        update=job.update["type"],
        prefix=f"projects/{job.project_id}/jobs/{job.id}/a1/result",
        manifest_sha256=FAKE_SHA256,
    )


@contextmanager
def run_worker(stack: Stack, *, pause: float = 0.03, fail: bool = False) -> Iterator[None]:
    """Advance the jobs of the stack's project until the block ends."""
    stopped = Flag()

    async def run() -> None:
        db = databases.connect(stack.settings.database_url)
        try:
            while not stopped.is_set():
                async with db.write() as session:
                    await advance_jobs(session, stack.tenant.project_id, fail)
                await asyncio.sleep(pause)
        finally:
            await db.close()

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(asyncio.run, run())
        try:
            yield
        finally:
            stopped.set()
            running.result()

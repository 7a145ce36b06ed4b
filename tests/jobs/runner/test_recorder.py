"""Recording of a running job's phase beside its progress, on both databases."""

from __future__ import annotations

import pytest
from sqlalchemy import func, select
from sqlmodel import col

from jobs.lifecycle import transitions
from jobs.lifecycle.states import QUEUED
from jobs.resources import Resources
from jobs.runner import recorder
from storage.db import Database
from storage.tables import Event, Job
from tests.jobs.conftest import MakeJob
from training.run_events import Metrics, PhaseName, PhaseProgress

pytestmark = [pytest.mark.anyio, pytest.mark.integration]

PROGRESS = {"step": 0, "total_steps": 9, "epoch": 0.0, "tokens_per_second": None, "eta": None, "tokens": 400}


class DatabaseOnly(Resources):
    """Resources of which only the database is used."""

    def __init__(self, db: Database) -> None:
        object.__setattr__(self, "db", db)


def build_phase(phase: PhaseName) -> PhaseProgress:
    return PhaseProgress(phase=phase, done=1, total=2)


def build_metrics(step: int) -> Metrics:
    return Metrics(step=step, total_steps=9, epoch=0.1, learning_rate=0.1, train_loss=1.0, tokens=8, eta_seconds=3.0)


async def test_a_phase_is_kept_with_the_progress_and_adds_no_event(db: Database, make_job: MakeJob) -> None:
    job = await make_job()
    async with db.write() as session:
        row = await session.get_one(Job, job.id)
        row.state, row.progress = QUEUED, PROGRESS
    async with db.write() as session:
        claimed = await transitions.claim(session, "train", "worker", 30)
    assert claimed is not None
    resources, (claim, _) = DatabaseOnly(db), claimed

    async def read_progress() -> dict[str, object] | None:
        async with db.read() as session:
            return (await session.get_one(Job, job.id)).progress

    async def count_events() -> int:
        async with db.read() as session:
            query = select(func.count()).select_from(Event).where(col(Event.job_id) == job.id)
            return (await session.execute(query)).scalar_one()

    before = await count_events()
    await recorder.record_progress(resources, claim, [build_phase("encoding"), build_phase("reference")])
    assert await read_progress() == {**PROGRESS, "phase": "reference"}
    assert await count_events() == before
    await recorder.record_progress(resources, claim, [build_phase("training"), build_metrics(1)])
    progress = await read_progress()
    assert progress is not None
    assert (progress["step"], progress["eta"], progress["phase"]) == (1, 3.0, "training")
    await recorder.record_progress(resources, claim, [build_metrics(2), build_phase("evaluating")])
    assert await read_progress() == {**progress, "step": 2, "phase": "evaluating"}
    await recorder.record_progress(resources, claim, [build_phase("saving")])
    assert await read_progress() == {**progress, "step": 2, "phase": "saving"}

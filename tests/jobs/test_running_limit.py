"""Limit of running jobs per project, on both databases."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import update
from sqlmodel import col

from jobs.lifecycle import transitions
from jobs.lifecycle.states import QUEUED, SUCCEEDED
from storage.access import keys
from storage.db import Database
from storage.tables import Job, Project
from tests.jobs.conftest import MakeJob

pytestmark = [pytest.mark.anyio, pytest.mark.integration]


async def _queue_jobs(db: Database, make_job: MakeJob, count: int, **values: object) -> None:
    for _ in range(count):
        job = await make_job(**values)
        async with db.write() as session:
            await session.execute(update(Job).where(col(Job.id) == job.id).values(state=QUEUED))


async def _claim_concurrently(db: Database, count: int, default_limit: int | None = None) -> list[transitions.Claim]:
    """Claim with ``count`` concurrent workers."""

    async def claim(number: int) -> transitions.Claim | None:
        async with db.write() as session:
            claimed = await transitions.claim(session, "train", f"w{number}", 30.0, default_limit)
        return claimed[0] if claimed else None

    return [held for held in await asyncio.gather(*(claim(number) for number in range(count))) if held]


async def _set_running_limit(db: Database, project_id: str, limit: int) -> None:
    async with db.write() as session:
        await session.execute(update(Project).where(col(Project.id) == project_id).values(max_running_jobs=limit))


async def test_no_more_jobs_run_than_the_project_may_have(db: Database, project_id: str, make_job: MakeJob) -> None:
    await _set_running_limit(db, project_id, 2)
    await _queue_jobs(db, make_job, 6)
    held = [claim for _ in range(3) for claim in await _claim_concurrently(db, 6)]
    assert len(held) == 2
    async with db.write() as session:
        await transitions.transition(session, held[0], SUCCEEDED, [])
    assert len(await _claim_concurrently(db, 6) + await _claim_concurrently(db, 6)) == 1


async def test_the_servers_limit_applies_if_the_project_has_none(
    db: Database, project_id: str, make_job: MakeJob
) -> None:
    await _queue_jobs(db, make_job, 4)
    assert len(await _claim_concurrently(db, 4, 1) + await _claim_concurrently(db, 4, 1)) == 1
    await _set_running_limit(db, project_id, 3)
    held = [claim for _ in range(4) for claim in await _claim_concurrently(db, 4, 1)]
    assert len(held) == 2


async def test_a_full_project_does_not_delay_another(db: Database, project_id: str, make_job: MakeJob) -> None:
    await _set_running_limit(db, project_id, 1)
    async with db.write() as session:
        other = (await keys.create_project(session, "other")).id
    await _queue_jobs(db, make_job, 3)
    await _queue_jobs(db, make_job, 3, project_id=other)
    held = [claim for _ in range(6) for claim in await _claim_concurrently(db, 1)]
    assert len(held) == 4

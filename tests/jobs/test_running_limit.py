"""Running jobs of one project, on both databases: never more than it may."""

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

pytestmark = pytest.mark.anyio


async def _queued(db: Database, make_job: MakeJob, count: int, **values: object) -> None:
    for _ in range(count):
        job = await make_job(**values)
        async with db.write() as session:
            await session.execute(update(Job).where(col(Job.id) == job.id).values(state=QUEUED))


async def _claims(db: Database, count: int, default: int | None = None) -> list[transitions.Claim]:
    """Of as many workers at once."""

    async def one(number: int) -> transitions.Claim | None:
        async with db.write() as session:
            found = await transitions.claim(session, "train", f"w{number}", 30.0, default)
        return found[0] if found else None

    return [held for held in await asyncio.gather(*(one(number) for number in range(count))) if held]


async def _limited(db: Database, project_id: str, most: int) -> None:
    async with db.write() as session:
        await session.execute(update(Project).where(col(Project.id) == project_id).values(max_running_jobs=most))


async def test_as_many_as_the_project_may(db: Database, project_id: str, make_job: MakeJob) -> None:
    await _limited(db, project_id, 2)
    await _queued(db, make_job, 6)
    held = [claim for _ in range(3) for claim in await _claims(db, 6)]
    assert len(held) == 2
    async with db.write() as session:
        await transitions.move(session, held[0], SUCCEEDED, [])
    assert len(await _claims(db, 6) + await _claims(db, 6)) == 1


async def test_the_server_s_number_where_the_project_has_none(db: Database, project_id: str, make_job: MakeJob) -> None:
    await _queued(db, make_job, 4)
    assert len(await _claims(db, 4, 1) + await _claims(db, 4, 1)) == 1
    await _limited(db, project_id, 3)
    found = [claim for _ in range(4) for claim in await _claims(db, 4, 1)]
    assert len(found) == 2


async def test_a_full_project_does_not_hold_up_another(db: Database, project_id: str, make_job: MakeJob) -> None:
    await _limited(db, project_id, 1)
    async with db.write() as session:
        other = (await keys.create_project(session, "other")).id
    await _queued(db, make_job, 3)
    await _queued(db, make_job, 3, project_id=other)
    found = [claim for _ in range(6) for claim in await _claims(db, 1)]
    assert len(found) == 4

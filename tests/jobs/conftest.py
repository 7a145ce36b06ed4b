"""Fixtures: a database with one project, and jobs in it."""

from __future__ import annotations

import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from jobs.lifecycle import transitions
from storage.access import keys
from storage.db import Database, connect
from storage.ids import new_id
from storage.tables import Job

MakeJob = Callable[..., Awaitable[Job]]


@pytest.fixture
async def db(database_url: str) -> AsyncIterator[Database]:
    db = connect(database_url)
    yield db
    await db.close()


@pytest.fixture
async def project_id(db: Database) -> str:
    async with db.write() as session:
        return (await keys.create_project(session, "test")).id


@pytest.fixture
def make_job(db: Database, project_id: str) -> MakeJob:
    order = itertools.count()

    async def make(**values: object) -> Job:
        job = Job(
            **{
                "id": new_id("job"),
                "project_id": project_id,
                "created_at": time.time() + next(order),
                "base_model": "starter",
                "task": "chat",
                "update": {"type": "lora"},
                "method": {"type": "supervised"},
                "hyperparameters": {},
                "columns": {},
                "training_file": "file-x",
                "seed": 1,
                **values,
            }
        )
        async with db.write() as session:
            return await transitions.create(session, job)

    return make

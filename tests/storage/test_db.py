"""The database behaves the same on SQLite and Postgres."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, event, select, text
from sqlmodel import col

from storage import migrate
from storage.access import keys
from storage.clock import db_now
from storage.db import Database, connect
from storage.errors import StorageUnavailable, UnknownUrl
from storage.tables import METADATA, ApiKey, Project

pytestmark = [pytest.mark.anyio, pytest.mark.integration]


async def test_migrations_create_exactly_the_tables_of_the_code(database_url: str) -> None:
    await migrate.upgrade(database_url)
    db = connect(database_url)

    def differences(connection: Connection) -> list[object]:
        return list(compare_metadata(MigrationContext.configure(connection), METADATA))

    async with db.engine.connect() as connection:
        assert await connection.run_sync(differences) == []
    await db.close()


async def _abort_transaction(db: Database) -> None:
    """Start a transaction that fails midway."""

    async def begin() -> None:
        async with db.write() as session:
            await keys.create_project(session, "lost")
            raise RuntimeError("midway")

    with pytest.raises(RuntimeError, match="midway"):
        await begin()


async def test_a_write_is_atomic(database_url: str) -> None:
    db = connect(database_url)
    async with db.write() as session:
        await keys.create_project(session, "kept")

    await _abort_transaction(db)
    async with db.read() as session:
        assert (await session.execute(select(col(Project.name)))).scalars().all() == ["kept"]
    await db.close()


async def test_an_autocommit_select_begins_no_transaction_and_leaves_those_of_others_alone(database_url: str) -> None:
    db = connect(database_url)
    names = select(col(Project.name))
    statements: list[str] = []
    listener = (db.engine.sync_engine, "before_cursor_execute", lambda *args: statements.append(args[2]))
    async with db.write() as session:
        await keys.create_project(session, "kept")
    event.listen(*listener)
    async with db.autocommit() as connection:
        assert (await connection.execute(names)).scalars().all() == ["kept"]
    event.remove(*listener)
    assert [statement.split()[0] for statement in statements] == ["SELECT"]

    # The pool returns the same connection.
    await _abort_transaction(db)
    async with db.autocommit() as connection:
        assert (await connection.execute(names)).scalars().all() == ["kept"]
    await db.close()


async def test_the_clock_is_the_databases_and_counts_seconds(database_url: str) -> None:
    db = connect(database_url)
    async with db.read() as session:
        first = (await session.execute(select(db_now()))).scalar_one()
    await asyncio.sleep(0.05)
    async with db.read() as session:
        second = (await session.execute(select(db_now()))).scalar_one()
    assert abs(first - time.time()) < 5
    assert 0.04 < second - first < 5
    await db.close()


async def test_writers_that_read_first_wait_for_each_other(database_url: str) -> None:
    """Concurrent writers do not fail.

    A deferred SQLite transaction that writes after another one's commit would fail immediately.
    """
    db = connect(database_url)

    async def add(number: int) -> None:
        async with db.write() as session:
            await session.execute(select(col(Project.id)))
            await asyncio.sleep(0.001)
            await keys.create_project(session, str(number))

    await asyncio.gather(*(add(number) for number in range(60)))
    async with db.read() as session:
        assert len((await session.execute(select(col(Project.id)))).all()) == 60
    await db.close()


async def test_sqlite_keeps_a_write_ahead_log_and_checks_references(tmp_path: Path) -> None:
    db = connect(f"sqlite+aiosqlite:///{tmp_path}/x.db")
    async with db.read() as session:
        assert (await session.execute(text("PRAGMA journal_mode"))).scalar_one() == "wal"
        assert (await session.execute(text("PRAGMA foreign_keys"))).scalar_one() == 1
        assert (await session.execute(text("PRAGMA synchronous"))).scalar_one() == 2
    await db.close()


async def test_an_unreachable_database_is_unavailable() -> None:
    db = connect("postgresql+asyncpg://postgres@127.0.0.1:9/none")
    with pytest.raises(StorageUnavailable):
        await db.ping()
    await db.close()


def test_other_databases_are_rejected() -> None:
    with pytest.raises(UnknownUrl, match="sqlite"):
        connect("mysql://host/x")


async def test_keys_are_found_by_hash_until_revoked(database_url: str) -> None:
    db = connect(database_url)
    async with db.write() as session:
        project = await keys.create_project(session, "p")
        key, row = await keys.create_key(session, project.id, "k")
    async with db.read() as session:
        principal = await keys.authenticate(session, key)
        assert principal is not None
        assert principal.project_id == project.id
        assert await keys.authenticate(session, key + "x") is None
        assert await keys.authenticate(session, "") is None
        stored = (await session.execute(select(ApiKey))).scalar_one()
        assert key not in stored.model_dump_json()
        assert stored.prefix == key[: len(stored.prefix)]
        assert len(stored.prefix) < len(key) / 2
    async with db.write() as session:
        assert await keys.revoke_key(session, row.id)
        assert not await keys.revoke_key(session, row.id)
    async with db.read() as session:
        assert await keys.authenticate(session, key) is None
    await db.close()

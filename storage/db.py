"""The database: one code path for SQLite and Postgres. Only :func:`connect` opens it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, event, make_url, text
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine

from storage.errors import StorageUnavailable, UnknownUrl

_WRITE = "luthier_write"
_AUTOCOMMIT = "luthier_single"

# A stuck holder of locks or of an open transaction must not block all others (milliseconds).
_POSTGRES_CONNECT_ARGS = {
    "server_settings": {
        "lock_timeout": "5000",
        "statement_timeout": "30000",
        "idle_in_transaction_session_timeout": "15000",
    },
    "timeout": 5,
}

_ENGINE_OPTIONS: dict[str, dict[str, Any]] = {
    "sqlite": {"connect_args": {"timeout": 10}, "pool_size": 8, "max_overflow": 8},
    "postgresql": {"connect_args": _POSTGRES_CONNECT_ARGS, "pool_size": 8, "max_overflow": 8, "pool_pre_ping": True},
}


_AUTOCOMMIT_OPTIONS: dict[str, dict[str, Any]] = {
    "sqlite": {_AUTOCOMMIT: True},
    "postgresql": {"isolation_level": "AUTOCOMMIT"},
}
"""Execution options that make each statement a transaction of its own."""

# Not escaped to ASCII: SQLite compares the keys of stored JSON as text.
_serialize_json = partial(json.dumps, ensure_ascii=False)


class Database:
    """Sessions for reading and for writing.

    Only run statements inside a session, no I/O on files, buckets, queues or HTTP: a writer blocks
    the others.
    """

    def __init__(self, engine: AsyncEngine) -> None:
        self.engine = engine
        self._reader = async_sessionmaker(engine, expire_on_commit=False)
        self._writer = async_sessionmaker(engine.execution_options(**{_WRITE: True}), expire_on_commit=False)
        self._autocommit_engine = engine.execution_options(**_AUTOCOMMIT_OPTIONS[engine.dialect.name])

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncSession]:
        """Open a session that only reads; changes are never committed."""
        with _translate_errors():
            async with self._reader() as session:
                yield session

    @asynccontextmanager
    async def autocommit(self) -> AsyncIterator[AsyncConnection]:
        """Open a connection for one ``SELECT``, without the round trips of a transaction."""
        with _translate_errors():
            async with self._autocommit_engine.connect() as connection:
                yield connection

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncSession]:
        """Open a transaction. It commits on exit and rolls back on an exception.

        Raises ``StorageUnavailable``.
        """
        with _translate_errors():
            async with self._writer() as session, session.begin():
                yield session

    async def ping(self) -> None:
        async with self.read() as session:
            await session.execute(text("SELECT 1"))

    async def close(self) -> None:
        await self.engine.dispose()


@contextmanager
def _translate_errors() -> Iterator[None]:
    """Turn lost connections and lock timeouts into ``StorageUnavailable``.

    Other errors pass through.
    """
    try:
        yield
    except (OperationalError, InterfaceError, PoolTimeout, OSError) as error:
        raise StorageUnavailable(f"the database does not respond ({type(error).__name__}); try again") from error


def connect(url: str) -> Database:
    """Open ``sqlite+aiosqlite:///path`` or ``postgresql+asyncpg://…``.

    Raises ``UnknownUrl`` for others.
    """
    parsed = make_url(url)
    backend = parsed.get_backend_name()
    if backend not in _ENGINE_OPTIONS:
        raise UnknownUrl(
            f"LUTHIER_DATABASE_URL starts with {backend!r}; use sqlite+aiosqlite:// or postgresql+asyncpg://"
        )
    if backend == "sqlite" and parsed.database:
        Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
    engine = create_async_engine(url, json_serializer=_serialize_json, **_ENGINE_OPTIONS[backend])
    if backend == "sqlite":
        event.listen(engine.sync_engine, "connect", _configure_sqlite)
        event.listen(engine.sync_engine, "begin", _begin_sqlite)
    return Database(engine)


def _configure_sqlite(connection: Any, record: Any) -> None:
    # Stop the driver from opening deferred transactions: SQLAlchemy's "begin" event opens ours.
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=10000", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    # A deferred transaction that reads first and then writes fails immediately if another one
    # committed in between. IMMEDIATE takes the write lock first and waits for it.
    options = connection.get_execution_options()
    if not options.get(_AUTOCOMMIT, False):
        connection.exec_driver_sql("BEGIN IMMEDIATE" if options.get(_WRITE, False) else "BEGIN")

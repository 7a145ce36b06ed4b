"""``INSERT … ON CONFLICT`` for SQLite and Postgres, which have separate functions in SQLAlchemy."""

from __future__ import annotations

from typing import Any

from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import SQLModel

_INSERTS: dict[str, Any] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}


def upsert_into(session: AsyncSession, table: type[SQLModel]) -> Any:
    """Return an insert with ``on_conflict_do_update`` and ``on_conflict_do_nothing``."""
    return _INSERTS[session.get_bind().dialect.name](table)

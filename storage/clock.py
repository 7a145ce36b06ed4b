"""The database's clock, for all times that several machines compare (leases, retry times)."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Float, or_
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.expression import ColumnElement


class db_now(ColumnElement[float]):
    """Seconds since 1970 by the database server's clock. A worker's wrong clock has no effect."""

    inherit_cache = True
    type = Float()


@compiles(db_now, "sqlite")
def _compile_sqlite(element: db_now, compiler: Any, **kw: Any) -> str:
    # julianday is in every SQLite; unixepoch('subsec') needs 3.42. Resolution: about 0.05 ms.
    return "((julianday('now') - 2440587.5) * 86400.0)"


@compiles(db_now, "postgresql")
def _compile_postgresql(element: db_now, compiler: Any, **kw: Any) -> str:
    # clock_timestamp() advances within a transaction, now() does not.
    return "(extract(epoch from clock_timestamp())::double precision)"


def is_unexpired(expires_at: Any) -> ColumnElement[bool]:
    """Return the condition that the column ``expires_at`` is null or in the future."""
    return or_(expires_at.is_(None), expires_at > db_now())

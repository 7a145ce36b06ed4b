"""Alembic's entry: the connection comes from :mod:`storage.migrate`, the tables from :mod:`storage.tables`."""

from __future__ import annotations

from alembic import context
from sqlmodel.sql.sqltypes import AutoString

from storage.tables import METADATA

connection = context.config.attributes["connection"]
# SQLite cannot alter most of a table in place; batch mode copies it.
context.configure(
    connection=connection,
    target_metadata=METADATA,
    render_as_batch=True,
    # SQLModel's own string type would make every migration import SQLModel.
    render_item=lambda kind, item, _: "sa.String()" if kind == "type" and isinstance(item, AutoString) else False,
)
with context.begin_transaction():
    context.run_migrations()

"""Alembic environment.

It migrates :mod:`storage.tables` on the connection of :mod:`storage.migrate`.
"""

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
    # With SQLModel's string type, every migration would have to import SQLModel.
    render_item=lambda kind, item, _: "sa.String()" if kind == "type" and isinstance(item, AutoString) else False,
)
with context.begin_transaction():
    context.run_migrations()

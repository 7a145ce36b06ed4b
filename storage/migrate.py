"""Migration of a database to the current tables with Alembic, on either backend."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection

from storage.db import connect


def build_config(connection: Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    return config


async def upgrade(url: str) -> None:
    """Upgrade a database to the newest revision. This can be repeated, also after a crash."""
    db = connect(url)
    try:
        async with db.engine.begin() as connection:
            await connection.run_sync(lambda sync: command.upgrade(build_config(sync), "head"))
    finally:
        await db.close()

"""Bringing a database to the tables this code expects: Alembic, driven from here, on either backend."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection

from storage.db import connect


def build_config(connection: Connection) -> Config:
    settings = Config()
    settings.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    settings.attributes["connection"] = connection
    return settings


async def upgrade(url: str) -> None:
    """To the newest revision. Running it again, or after a crash in the middle, is harmless."""
    db = connect(url)
    try:
        async with db.engine.begin() as connection:
            await connection.run_sync(lambda sync: command.upgrade(build_config(sync), "head"))
    finally:
        await db.close()

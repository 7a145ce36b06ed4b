"""``luthierd keys``: make, list and revoke API keys."""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, TypeVar

import typer
from rich.console import Console
from rich.table import Table
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import select

from storage import db as databases
from storage import keys
from storage.settings import Settings
from storage.tables import Project

app = typer.Typer(help="Make, list and revoke API keys.", no_args_is_help=True)
Home = Annotated[Path | None, typer.Option(help="Where the stack keeps everything.")]
T = TypeVar("T")


def _run(home: Path | None, work: Callable[[AsyncSession], Awaitable[T]]) -> T:
    async def inside() -> T:
        db = databases.connect((Settings(home=home) if home else Settings()).database_url)
        try:
            async with db.write() as session:
                return await work(session)
        finally:
            await db.close()

    return asyncio.run(inside())


@app.command()
def create(
    name: Annotated[str, typer.Option(help="What the key is for.")] = "unnamed",
    project: Annotated[str, typer.Option(help="Name of the project; made if there is none.")] = "default",
    home: Home = None,
) -> None:
    """Make a key and print it, this once."""

    async def work(session: AsyncSession) -> str:
        found = (await session.execute(select(Project).where(Project.name == project))).scalars().first()
        owner = found or await keys.create_project(session, project)
        return (await keys.create_key(session, owner.id, name))[0]

    typer.echo(_run(home, work))


@app.command("list")
def list_(home: Home = None) -> None:
    """Every key: its id, project, first characters and state."""
    table = Table("id", "project", "name", "key", "made", "state")
    for key, project in _run(home, keys.list_keys):
        made = datetime.datetime.fromtimestamp(key.created_at, datetime.UTC).strftime("%Y-%m-%d %H:%M")
        state = "revoked" if key.revoked_at else "in force"
        table.add_row(key.id, project.name, key.name, f"{key.prefix}…", made, state)
    Console().print(table)


@app.command()
def revoke(key_id: str, home: Home = None) -> None:
    """Put a key out of force at once."""

    async def work(session: AsyncSession) -> bool:
        return await keys.revoke_key(session, key_id)

    if not _run(home, work):
        typer.echo(f"no key {key_id} is in force; see 'luthierd keys list'", err=True)
        raise typer.Exit(1)
    typer.echo(f"{key_id} is revoked")

"""``luthierd keys``: make, list and revoke API keys."""

from __future__ import annotations

import asyncio
import datetime
import time
from collections.abc import Awaitable, Callable
from enum import Enum
from pathlib import Path
from typing import Annotated, TypeVar

import typer
from rich.console import Console
from rich.table import Table
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col, select

from storage import db as databases
from storage.access import keys
from storage.access.audit import audit
from storage.access.roles import ROLES
from storage.settings import Settings
from storage.tables import ApiKey, Project

app = typer.Typer(help="Make, list and revoke API keys.", no_args_is_help=True)
Home = Annotated[Path | None, typer.Option(help="Where the stack keeps everything.")]
T = TypeVar("T")


def _run_in_session(home: Path | None, operation: Callable[[AsyncSession], Awaitable[T]]) -> T:
    async def inside() -> T:
        db = databases.connect((Settings(home=home) if home else Settings()).database_url)
        try:
            async with db.write() as session:
                return await operation(session)
        finally:
            await db.close()

    return asyncio.run(inside())


Role = Enum("Role", {role: role for role in ROLES}, type=str)  # type: ignore[misc]
"""As typer wants choices."""
OPERATOR_KEY_ID = "luthierd"
"""Who the audit log names for a change made here."""


@app.command()
def create(
    name: Annotated[str, typer.Option(help="What the key is for.")] = "unnamed",
    project: Annotated[str, typer.Option(help="Name of the project; made if there is none.")] = "default",
    role: Annotated[Role, typer.Option(help="What the key may do.")] = Role("admin"),
    expires_days: Annotated[float | None, typer.Option(help="Days that it lives; for ever by default.", min=0)] = None,
    home: Home = None,
) -> None:
    """Make a key and print it, this once."""
    expires_at = None if expires_days is None else time.time() + expires_days * 86_400

    async def work(session: AsyncSession) -> str:
        living = [col(Project.name) == project, col(Project.archived_at).is_(None)]
        found = (await session.execute(select(Project).where(*living))).scalars().first()
        owner = found or await keys.create_project(session, project)
        value, key = await keys.create_key(session, owner.id, name, role.value, expires_at)
        await audit(session, _build_operator_principal(owner), "api_key.created", key.id, detail={"role": role.value})
        return value

    typer.echo(_run_in_session(home, work))


@app.command("list")
def list_(home: Home = None) -> None:
    """Every key: its id, project, role, first characters and state."""
    table = Table("id", "project", "name", "role", "key", "made", "state")
    for key, project in _run_in_session(home, keys.list_keys):
        table.add_row(
            key.id,
            project.name,
            key.name,
            key.role,
            f"{key.prefix}…",
            _format_date(key.created_at),
            _format_state(key, project),
        )
    Console().print(table)


@app.command()
def revoke(key_id: str, home: Home = None) -> None:
    """Put a key out of force at once."""

    async def work(session: AsyncSession) -> bool:
        key = await keys.revoke_key(session, key_id)
        if key is None:
            return False
        project = await session.get_one(Project, key.project_id)
        await audit(session, _build_operator_principal(project), "api_key.deleted", key_id)
        return True

    if not _run_in_session(home, work):
        typer.echo(f"no key {key_id} is in force; see 'luthierd keys list'", err=True)
        raise typer.Exit(1)
    typer.echo(f"{key_id} is revoked")


def _build_operator_principal(project: Project) -> keys.Principal:
    return keys.Principal(project.id, OPERATOR_KEY_ID, project.organization_id)


def _format_state(key: ApiKey, project: Project) -> str:
    if key.revoked_at is not None:
        return "revoked"
    if project.archived_at is not None:
        return "project archived"
    if key.expires_at is None:
        return "in force"
    return f"{'expired' if key.expires_at <= time.time() else 'until'} {_format_date(key.expires_at)}"


def _format_date(second: float) -> str:
    return datetime.datetime.fromtimestamp(second, datetime.UTC).strftime("%Y-%m-%d %H:%M")

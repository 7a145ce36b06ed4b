"""``luthierd keys``: create, list and revoke API keys."""

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

app = typer.Typer(help="Create, list and revoke API keys.", no_args_is_help=True)
Home = Annotated[Path | None, typer.Option(help="Directory of the stack's data.")]
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
"""Choices of ``--role``; typer requires an enum."""
OPERATOR_KEY_ID = "luthierd"
"""Actor that the audit log names for changes by this command."""


@app.command()
def create(
    name: Annotated[str, typer.Option(help="Name that describes the key's purpose.")] = "unnamed",
    project: Annotated[str, typer.Option(help="Name of the project; created if it does not exist.")] = "default",
    role: Annotated[Role, typer.Option(help="Role of the key, which defines its permissions.")] = Role("admin"),
    expires_days: Annotated[
        float | None, typer.Option(help="Days until the key expires; it never expires by default.", min=0)
    ] = None,
    home: Home = None,
) -> None:
    """Create a key and print it. It cannot be printed again."""
    expires_at = None if expires_days is None else time.time() + expires_days * 86_400

    async def work(session: AsyncSession) -> str:
        conditions = [col(Project.name) == project, col(Project.archived_at).is_(None)]
        existing = (await session.execute(select(Project).where(*conditions))).scalars().first()
        owner = existing or await keys.create_project(session, project)
        value, key = await keys.create_key(session, owner.id, name, role.value, expires_at)
        await audit(session, _build_operator_principal(owner), "api_key.created", key.id, detail={"role": role.value})
        return value

    typer.echo(_run_in_session(home, work))


@app.command("list")
def list_(home: Home = None) -> None:
    """List all keys with id, project, role, first characters and state."""
    table = Table("id", "project", "name", "role", "key", "created", "state")
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
    """Revoke a key immediately."""

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


def _format_date(timestamp: float) -> str:
    return datetime.datetime.fromtimestamp(timestamp, datetime.UTC).strftime("%Y-%m-%d %H:%M")

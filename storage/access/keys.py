"""Projects and API keys: creation, authentication and revocation."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from sqlalchemy import Float, Select, bindparam
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession
from sqlmodel import SQLModel, col, select, update

from storage.access.limits import Limits
from storage.access.roles import Role
from storage.ids import new_id, random_text
from storage.tables import ApiKey, Project

KEY_PREFIX = "sk-luthier-"
DEFAULT_ORGANIZATION = "org_default"
"""Organization created by the migration; the default owner of projects."""


@dataclass(frozen=True)
class Principal:
    """The authenticated caller. Every query is scoped to ``project_id``."""

    project_id: str
    key_id: str
    organization_id: str = DEFAULT_ORGANIZATION
    role: str = "admin"
    limits: Limits = field(default_factory=Limits)
    """Limits of the project."""
    request_id: str = ""
    """Id of the current request, for the audit log."""


def hash_key(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


async def create_project(session: AsyncSession, name: str, organization_id: str = DEFAULT_ORGANIZATION) -> Project:
    project = Project(id=new_id("project"), organization_id=organization_id, name=name, created_at=time.time())
    session.add(project)
    await session.flush()
    return project


async def create_key(
    session: AsyncSession, project_id: str, name: str, role: Role = "admin", expires_at: float | None = None
) -> tuple[str, ApiKey]:
    """Create a key and return it with its row. Only the hash of the key is stored."""
    key = KEY_PREFIX + random_text(32)
    row = ApiKey(
        id=new_id("key"),
        project_id=project_id,
        name=name,
        role=role,
        prefix=key[: len(KEY_PREFIX) + 4],
        hash=hash_key(key),
        created_at=time.time(),
        expires_at=expires_at,
    )
    session.add(row)
    await session.flush()
    return key, row


def _build_principals_query() -> Select[Any]:
    """Build the query for the keys with one of ``:hashes`` that are valid at ``:now``.

    A valid key is neither revoked nor expired, and its project is not archived.
    """
    # SQLAlchemy reads columns of tables in half the time of columns of classes.
    key, project = (SQLModel.metadata.tables[name].c for name in ("api_keys", "projects"))
    columns: list[Any] = [key.hash, key.id, key.role, key.project_id, project.organization_id]
    query: Select[Any] = select(*columns, *(project[field.name] for field in fields(Limits))).where(
        key.project_id == project.id,
        key.hash.in_(bindparam("hashes", expanding=True)),
        key.revoked_at.is_(None),
        key.expires_at.is_(None) | (key.expires_at > bindparam("now", type_=Float)),
        project.archived_at.is_(None),
    )
    return query


# Built once, because every request runs it and building it took as long as running it.
_PRINCIPALS_QUERY = _build_principals_query()


async def find_principals(connection: AsyncSession | AsyncConnection, hashes: Sequence[str]) -> dict[str, Principal]:
    """Return the principals of valid keys, keyed by hash.

    The lookup is by hash, so its timing reveals nothing about a key.
    """
    return {
        row.hash: Principal(
            project_id=row.project_id,
            key_id=row.id,
            organization_id=row.organization_id,
            role=row.role,
            limits=Limits.from_attributes(row),
        )
        for row in await connection.execute(_PRINCIPALS_QUERY, {"hashes": hashes, "now": time.time()})
    }


async def authenticate(session: AsyncSession, key: str) -> Principal | None:
    """Return the principal of a key, or None if the key is unknown or not valid."""
    key_hash = hash_key(key)
    return (await find_principals(session, [key_hash])).get(key_hash)


async def list_keys(session: AsyncSession) -> list[tuple[ApiKey, Project]]:
    query = select(ApiKey, Project).where(ApiKey.project_id == Project.id).order_by(col(ApiKey.created_at))
    return [(key, project) for key, project in (await session.execute(query)).all()]


async def revoke_key(session: AsyncSession, key_id: str, project_id: str | None = None) -> ApiKey | None:
    """Revoke a key and return its row, or None if there is no such unrevoked key.

    With ``project_id`` the key must belong to that project.
    """
    conditions = [col(ApiKey.id) == key_id, col(ApiKey.revoked_at).is_(None)]
    if project_id is not None:
        conditions.append(col(ApiKey.project_id) == project_id)
    statement = update(ApiKey).where(*conditions).values(revoked_at=time.time()).returning(ApiKey)
    statement = statement.execution_options(synchronize_session=False, populate_existing=True)
    return (await session.execute(statement)).scalar_one_or_none()

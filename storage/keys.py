"""Projects and API keys: made, found by the key that a request shows, revoked."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col, select, update

from storage.ids import new_id, random_text
from storage.tables import ApiKey, Project

KEY_PREFIX = "sk-luthier-"


@dataclass(frozen=True)
class Principal:
    """Who asks: every query is scoped to ``project_id``."""

    project_id: str
    key_id: str


def hashed(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


async def create_project(session: AsyncSession, name: str) -> Project:
    project = Project(id=new_id("project"), name=name, created_at=time.time())
    session.add(project)
    await session.flush()
    return project


async def create_key(session: AsyncSession, project_id: str, name: str) -> tuple[str, ApiKey]:
    """The key, which is nowhere else after this, and its row."""
    key = KEY_PREFIX + random_text(32)
    row = ApiKey(
        id=new_id("key"),
        project_id=project_id,
        name=name,
        prefix=key[: len(KEY_PREFIX) + 4],
        hash=hashed(key),
        created_at=time.time(),
    )
    session.add(row)
    await session.flush()
    return key, row


async def authenticate(session: AsyncSession, key: str) -> Principal | None:
    """None for an unknown or revoked key. The lookup is by hash, so its timing says nothing about the key."""
    query = select(ApiKey.project_id, ApiKey.id).where(ApiKey.hash == hashed(key), col(ApiKey.revoked_at).is_(None))
    row = (await session.execute(query)).first()
    return Principal(project_id=row[0], key_id=row[1]) if row else None


async def list_keys(session: AsyncSession) -> list[tuple[ApiKey, Project]]:
    query = select(ApiKey, Project).where(ApiKey.project_id == Project.id).order_by(col(ApiKey.created_at))
    return [(key, project) for key, project in (await session.execute(query)).all()]


async def revoke_key(session: AsyncSession, key_id: str) -> bool:
    """False where no such key was in force."""
    statement = (
        update(ApiKey)
        .where(col(ApiKey.id) == key_id, col(ApiKey.revoked_at).is_(None))
        .values(revoked_at=time.time())
        .returning(col(ApiKey.id))
    )
    return (await session.execute(statement)).first() is not None

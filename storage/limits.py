"""How much a project may use, and the refusal of what would be more."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, Self

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from storage.tables import File, Project, Upload


class HasLimits(Protocol):
    """A project's row, or the server's settings."""

    requests_per_minute: int | None
    tokens_per_minute: int | None
    max_running_jobs: int | None
    max_bytes: int | None


@dataclass(frozen=True)
class Limits:
    """None: no limit."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    max_running_jobs: int | None = None
    max_bytes: int | None = None

    @classmethod
    def of(cls, source: HasLimits) -> Self:
        return cls(source.requests_per_minute, source.tokens_per_minute, source.max_running_jobs, source.max_bytes)

    def over(self, default: Limits) -> Limits:
        """Each of these, and ``default``'s where this has none."""
        mine, theirs = vars(self), vars(default)
        return Limits(**{name: theirs[name] if value is None else value for name, value in mine.items()})


async def stored_bytes(session: AsyncSession, project_id: str) -> int:
    """Of the project's files, and what its open uploads have declared."""
    files = select(func.coalesce(func.sum(col(File.bytes)), 0)).where(col(File.project_id) == project_id)
    open_uploads = [col(Upload.project_id) == project_id, col(Upload.status) == "pending"]
    uploads = select(func.coalesce(func.sum(col(Upload.bytes)), 0)).where(*open_uploads)
    total = select(files.scalar_subquery() + uploads.scalar_subquery())
    return int((await session.execute(total)).scalar_one())


async def lock_project(session: AsyncSession, project_id: str) -> None:
    """Until the transaction ends nobody else counts or adds what this one does."""
    await session.execute(select(col(Project.id)).where(col(Project.id) == project_id).with_for_update())

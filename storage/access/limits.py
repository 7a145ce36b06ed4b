"""How much a project may use, and the refusal of what would be more."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Protocol, Self

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from storage.clock import is_unexpired
from storage.tables import Batch, File, Project, Upload


class QuotaExceeded(ValueError):
    """The message says what to change."""


class HasLimits(Protocol):
    """A project's row, or the server's settings."""

    requests_per_minute: int | None
    tokens_per_minute: int | None
    max_running_jobs: int | None
    max_queued_requests: int | None
    max_bytes: int | None


@dataclass(frozen=True)
class Limits:
    """None: no limit."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    max_running_jobs: int | None = None
    max_queued_requests: int | None = None
    max_bytes: int | None = None

    @classmethod
    def from_attributes(cls, source: HasLimits) -> Self:
        return cls(**{field.name: getattr(source, field.name) for field in fields(cls)})

    def with_defaults(self, defaults: Limits) -> Limits:
        """Each of these, and ``default``'s where this has none."""
        mine, theirs = vars(self), vars(defaults)
        return Limits(**{name: theirs[name] if value is None else value for name, value in mine.items()})


async def load_limits(session: AsyncSession, project_id: str, defaults: Limits) -> Limits:
    """Those in force for a project: its own, and ``default``'s where it has none."""
    return Limits.from_attributes(await session.get_one(Project, project_id)).with_defaults(defaults)


async def sum_stored_bytes(session: AsyncSession, project_id: str) -> int:
    """Of the project's files, what its open uploads have declared, and the answers of its batches that go on."""
    counted: tuple[tuple[Any, Any], ...] = ((File, File.bytes), (Upload, Upload.bytes), (Batch, Batch.output_bytes))
    sums = [
        select(func.coalesce(func.sum(col(size)), 0)).where(col(table.project_id) == project_id)
        for table, size in counted
    ]
    # One that has expired may not have been swept yet.
    sums[1] = sums[1].where(col(Upload.status) == "pending", is_unexpired(col(Upload.expires_at)))
    files, uploads, batches = (query.scalar_subquery() for query in sums)
    return int((await session.execute(select(files + uploads + batches))).scalar_one())


async def check_storage_quota(session: AsyncSession, project_id: str, limit: int | None, added_bytes: int) -> None:
    """In the transaction that adds ``more`` bytes, and first in it. Raises ``QuotaExceeded``."""
    if limit is None:
        return
    await lock_project(session, project_id)
    stored = await sum_stored_bytes(session, project_id)
    if stored + added_bytes > limit:
        raise QuotaExceeded(
            f"The project may keep {limit:,} bytes and has {stored:,}; {added_bytes:,} more do not fit. Delete files, or have "
            "an admin raise the project's 'max_bytes'."
        )


async def lock_project(session: AsyncSession, project_id: str) -> None:
    """Until the transaction ends nobody else counts or adds what this one does."""
    await session.execute(select(col(Project.id)).where(col(Project.id) == project_id).with_for_update())

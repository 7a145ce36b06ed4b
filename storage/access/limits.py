"""Limits of projects, and the check of the storage quota."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Protocol, Self

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from storage.clock import is_unexpired
from storage.tables import Batch, File, Project, Upload


class QuotaExceeded(ValueError):
    """A limit would be exceeded. The message tells what to change."""


class HasLimits(Protocol):
    """A project's row, or the server's settings."""

    requests_per_minute: int | None
    tokens_per_minute: int | None
    max_running_jobs: int | None
    max_queued_requests: int | None
    max_bytes: int | None


@dataclass(frozen=True)
class Limits:
    """Limits of a project or of the server. None means no limit."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    max_running_jobs: int | None = None
    max_queued_requests: int | None = None
    max_bytes: int | None = None

    @classmethod
    def from_attributes(cls, source: HasLimits) -> Self:
        return cls(**{field.name: getattr(source, field.name) for field in fields(cls)})

    def with_defaults(self, defaults: Limits) -> Limits:
        """Replace missing limits with those of ``defaults``."""
        default_values = vars(defaults)
        return Limits(**{name: default_values[name] if value is None else value for name, value in vars(self).items()})


async def load_limits(session: AsyncSession, project_id: str, defaults: Limits) -> Limits:
    """Return a project's effective limits: its own, with ``defaults`` for missing ones."""
    return Limits.from_attributes(await session.get_one(Project, project_id)).with_defaults(defaults)


async def sum_stored_bytes(session: AsyncSession, project_id: str) -> int:
    """Sum the sizes of files, open uploads (as declared) and output of unfinished batches."""
    columns: tuple[tuple[Any, Any], ...] = ((File, File.bytes), (Upload, Upload.bytes), (Batch, Batch.output_bytes))
    sums = [
        select(func.coalesce(func.sum(col(size)), 0)).where(col(table.project_id) == project_id)
        for table, size in columns
    ]
    # Expired uploads that have not been swept yet do not count.
    sums[1] = sums[1].where(col(Upload.status) == "pending", is_unexpired(col(Upload.expires_at)))
    files, uploads, batches = (query.scalar_subquery() for query in sums)
    return int((await session.execute(select(files + uploads + batches))).scalar_one())


async def check_storage_quota(session: AsyncSession, project_id: str, limit: int | None, added_bytes: int) -> None:
    """Check that ``added_bytes`` more bytes fit. Raises ``QuotaExceeded``.

    Call this first in the transaction that adds the bytes.
    """
    if limit is None:
        return
    await lock_project(session, project_id)
    stored = await sum_stored_bytes(session, project_id)
    if stored + added_bytes > limit:
        raise QuotaExceeded(
            f"The project stores {stored:,} of at most {limit:,} bytes; {added_bytes:,} more do not fit. Delete files, "
            "or have an admin raise the project's 'max_bytes'."
        )


async def lock_project(session: AsyncSession, project_id: str) -> None:
    """Lock the project's row until the transaction ends, to serialize checks of its limits."""
    await session.execute(select(col(Project.id)).where(col(Project.id) == project_id).with_for_update())

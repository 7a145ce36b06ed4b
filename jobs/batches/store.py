"""State of batches: each change is one conditional UPDATE, which takes effect or changes no row.

    validating ──► in_progress ──► finalizing ──► completed
        │               │               │
        └───────────────┴───────────────┴──────► failed, expired, cancelling ──► cancelled

Functions take a session of ``Database.write``, or a connection for queries, and do no other I/O.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from typing import Any, cast

from sqlalchemy import ColumnElement, delete, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession
from sqlalchemy.orm import aliased
from sqlmodel import SQLModel, col

from jobs.lifecycle.transitions import Claim, LeaseLost
from jobs.webhooks import outbox
from storage.clock import db_now
from storage.tables import Batch, BatchPart, File

VALIDATING, IN_PROGRESS, FINALIZING, CANCELLING = "validating", "in_progress", "finalizing", "cancelling"
COMPLETED, FAILED, EXPIRED, CANCELLED = "completed", "failed", "expired", "cancelled"
LIVE = (VALIDATING, IN_PROGRESS, FINALIZING, CANCELLING)
ENDED = (COMPLETED, FAILED, EXPIRED, CANCELLED)

COMPLETION_WINDOW_SECONDS = 86_400
"""The only supported ``completion_window``."""


async def claim(session: AsyncSession, worker: str, lease_seconds: float) -> tuple[Claim, Batch] | None:
    """Claim a batch of the project that was served least recently, or return None."""
    other = aliased(Batch)
    last_served = (
        select(func.coalesce(func.max(other.claimed_at), 0.0))
        .where(other.project_id == Batch.project_id)  # type: ignore[arg-type]
        .scalar_subquery()
    )
    chosen = (
        select(col(Batch.id))
        .where(*_is_claimable())
        .order_by(last_served, func.coalesce(col(Batch.claimed_at), 0.0), col(Batch.created_at), col(Batch.id))
        .limit(1)
        .with_for_update(skip_locked=True)
        .scalar_subquery()
    )
    owner = f"{worker}:{secrets.token_hex(8)}"
    values = {"owner": owner, "lease_until": db_now() + lease_seconds, "claimed_at": db_now()}
    batch = await _update_where(
        session, [col(Batch.id) == chosen, *_is_claimable()], {**values, "attempt": col(Batch.attempt) + 1}
    )
    return (Claim(batch.id, batch.attempt, owner), batch) if batch else None


async def heartbeat(session: AsyncSession, claim: Claim, lease_seconds: float) -> Batch:
    """Renew the lease. Raises ``LeaseLost``."""
    return await update_claimed(session, claim, lease_until=db_now() + lease_seconds)


async def update_claimed(session: AsyncSession, claim: Claim, **values: Any) -> Batch:
    """Set columns of a claimed batch. Raises ``LeaseLost``."""
    batch = await _update_where(session, _matches_claim(claim), values)
    if batch is None:
        raise LeaseLost(claim.job_id)
    return batch


async def advance(session: AsyncSession, claim: Claim, status: str, **values: Any) -> Batch:
    """Move the batch to another live status, unless it is being cancelled. Raises ``LeaseLost``."""
    values |= {"status": status, f"{status}_at": time.time()}
    batch = await _update_where(session, [*_matches_claim(claim), col(Batch.status) != CANCELLING], values)
    return batch or await update_claimed(session, claim, owner=claim.owner)


async def add_part(session: AsyncSession, claim: Claim, part: BatchPart, **increments: int) -> Batch:
    """Insert a part and increment the counters, ``processed`` included. Raises ``LeaseLost``."""
    values = {name: getattr(Batch, name) + increment for name, increment in increments.items()}
    batch = await _update_where(session, [*_matches_claim(claim), col(Batch.processed) == part.first_request], values)
    if batch is None:
        raise LeaseLost(claim.job_id)
    session.add(part)
    return batch


async def end(session: AsyncSession, claim: Claim, status: str, files: Sequence[File] = (), **values: Any) -> Batch:
    """End the batch, insert its files and enqueue webhook deliveries. Raises ``LeaseLost``."""
    ended = {"status": status, f"{status}_at": time.time(), "owner": None, "lease_until": None, "output_bytes": 0}
    batch = await _update_where(session, _matches_claim(claim), {**ended, **values})
    if batch is None:
        raise LeaseLost(claim.job_id)
    session.add_all(files)
    await outbox.enqueue(session, batch.project_id, f"batch.{status}", batch.id)
    return batch


async def release(session: AsyncSession, claim: Claim) -> None:
    """Release the claim on the batch, if it is still valid."""
    await _update_where(session, _matches_claim(claim), {"owner": None, "lease_until": None})


async def cancel(session: AsyncSession, project_id: str, batch_id: str) -> Batch | None:
    """Request a cancellation, which the batch's worker carries out.

    Return None if the batch cannot be cancelled any more or does not exist.
    """
    is_batch = [col(Batch.id) == batch_id, col(Batch.project_id) == project_id]
    cancellable = col(Batch.status).in_([VALIDATING, IN_PROGRESS, CANCELLING])
    cancelling_at = func.coalesce(col(Batch.cancelling_at), time.time())
    return await _update_where(
        session, [*is_batch, cancellable], {"status": CANCELLING, "cancelling_at": cancelling_at}
    )


async def count_unanswered(session: AsyncSession, project_id: str) -> int:
    """Return the number of unprocessed requests in the project's batches in progress."""
    conditions = [col(Batch.project_id) == project_id, col(Batch.status) == IN_PROGRESS]
    unanswered = select(func.coalesce(func.sum(col(Batch.total) - col(Batch.processed)), 0)).where(*conditions)
    return int((await session.execute(unanswered)).scalar_one())


async def find_batches_to_clean_up(connection: AsyncConnection) -> list[Batch]:
    """Return ended batches whose parts still exist."""
    return cast(list[Batch], list(await connection.execute(_CLEANUP_QUERY)))


async def mark_cleaned_up(session: AsyncSession, batch_id: str) -> None:
    await session.execute(delete(BatchPart).where(col(BatchPart.batch_id) == batch_id))
    await session.execute(update(Batch).where(col(Batch.id) == batch_id).values(cleaned_up=True))


def _is_claimable() -> list[ColumnElement[bool]]:
    is_free = or_(col(Batch.lease_until).is_(None), col(Batch.lease_until) < db_now())
    return [col(Batch.status).in_(LIVE), is_free]


# Built once: an idle worker runs them every other second.
_BATCHES = SQLModel.metadata.tables["batches"]
_CLAIMABLE_QUERY = select(col(Batch.id)).where(*_is_claimable()).limit(1)
_CLEANUP_QUERY = select(_BATCHES).where(_BATCHES.c.cleaned_up.is_(False), _BATCHES.c.status.in_(ENDED)).limit(20)


async def has_claimable(connection: AsyncConnection) -> bool:
    """Return True if a batch can be claimed.

    This takes no lock, so ``claim`` may still find none.
    """
    return (await connection.execute(_CLAIMABLE_QUERY)).first() is not None


def _matches_claim(claim: Claim) -> list[ColumnElement[bool]]:
    return [col(Batch.id) == claim.job_id, col(Batch.attempt) == claim.attempt, col(Batch.owner) == claim.owner]


async def _update_where(
    session: AsyncSession, conditions: Sequence[ColumnElement[bool]], values: dict[str, Any]
) -> Batch | None:
    statement = update(Batch).where(*conditions).values(**values).returning(Batch)
    statement = statement.execution_options(synchronize_session=False, populate_existing=True)
    return (await session.execute(statement)).scalar_one_or_none()

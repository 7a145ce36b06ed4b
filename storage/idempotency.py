"""Idempotent requests: claims on keys, and stored responses.

A request with an idempotency key *claims* the key before it runs; requests with the same key are
rejected until it ends. A request without a key claims nothing: an SDK repeats it only as a retry.
Its response is *stored* in the transaction that creates the object. If two such requests run at the
same time, the second transaction is rolled back.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from sqlalchemy import ColumnElement, delete, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from storage.ids import random_text
from storage.tables import IdempotencyRecord
from storage.upsert import upsert_into

RETENTION_SECONDS = 86_400.0
STALE_SECONDS = 60.0
"""A claim without a response for this long belongs to a dead process. Requests that create
something are faster."""

_PRIMARY_KEY = [col(IdempotencyRecord.project_id), col(IdempotencyRecord.key)]


@dataclass(frozen=True)
class RequestClaim:
    """Identity of a request that may claim a key and record the response."""

    project_id: str
    key: str
    fingerprint: str
    owner: str


@dataclass(frozen=True)
class StoredResponse:
    status: int
    body: str


class KeyReused(Exception):
    """The key was used for another request."""


class KeyInUse(Exception):
    """The first request with this key is still in progress."""


def new_ticket(project_id: str, key: str, fingerprint: str) -> RequestClaim:
    return RequestClaim(project_id, key, fingerprint, random_text(16))


async def claim(session: AsyncSession, ticket: RequestClaim) -> StoredResponse | None:
    """Claim the key and return None, or return the stored response of an earlier request.

    Raises ``KeyReused`` and ``KeyInUse``.
    """
    now = time.time()
    stale = col(IdempotencyRecord.status).is_(None) & (col(IdempotencyRecord.created_at) < now - STALE_SECONDS)
    retried = stale & (col(IdempotencyRecord.fingerprint) == ticket.fingerprint)
    if await _upsert(session, ticket, None, or_(col(IdempotencyRecord.created_at) < now - RETENTION_SECONDS, retried)):
        return None
    row = (await session.execute(select(IdempotencyRecord).where(*_match_key(ticket)))).scalar_one()
    if row.fingerprint != ticket.fingerprint:
        raise KeyReused(ticket.key)
    if row.status is None:
        raise KeyInUse(ticket.key)
    return StoredResponse(row.status, row.body or "")


async def complete(session: AsyncSession, ticket: RequestClaim, response: StoredResponse) -> bool:
    """Store the response of a claimed request.

    Return False if another request has claimed the key.
    """
    statement = (
        update(IdempotencyRecord).where(*_match_ticket(ticket)).values(status=response.status, body=response.body)
    )
    return (await session.execute(statement.returning(col(IdempotencyRecord.key)))).first() is not None


async def release(session: AsyncSession, ticket: RequestClaim) -> None:
    """Release a claim without a response, so that the next request can claim the key."""
    await session.execute(delete(IdempotencyRecord).where(*_match_ticket(ticket)))


async def store(session: AsyncSession, ticket: RequestClaim, response: StoredResponse, max_age_seconds: float) -> bool:
    """Store the response of an unclaimed request.

    Return False if there is a response that is younger than ``max_age_seconds``.
    """
    return await _upsert(session, ticket, response, col(IdempotencyRecord.created_at) <= time.time() - max_age_seconds)


async def load(session: AsyncSession, ticket: RequestClaim, max_age_seconds: float) -> StoredResponse | None:
    """Return the response to the same request within the last ``max_age_seconds``, or None."""
    conditions = [
        *_match_key(ticket),
        col(IdempotencyRecord.created_at) > time.time() - max_age_seconds,
        col(IdempotencyRecord.status).is_not(None),
    ]
    row = (await session.execute(select(IdempotencyRecord).where(*conditions))).scalar_one_or_none()
    return StoredResponse(row.status or 0, row.body or "") if row else None


async def delete_expired(session: AsyncSession) -> None:
    """Delete rows older than ``RETENTION_SECONDS``."""
    await session.execute(
        delete(IdempotencyRecord).where(col(IdempotencyRecord.created_at) < time.time() - RETENTION_SECONDS)
    )


async def _upsert(
    session: AsyncSession, ticket: RequestClaim, response: StoredResponse | None, replaceable: ColumnElement[bool]
) -> bool:
    """Insert the row, or replace one that matches ``replaceable``.

    Return False if neither happened.
    """
    values = {
        "fingerprint": ticket.fingerprint,
        "owner": ticket.owner,
        "created_at": time.time(),
        "status": response and response.status,
        "body": response and response.body,
    }
    insert = upsert_into(session, IdempotencyRecord).values(project_id=ticket.project_id, key=ticket.key, **values)
    insert = insert.on_conflict_do_update(index_elements=_PRIMARY_KEY, set_=values, where=replaceable)
    return (await session.execute(insert.returning(col(IdempotencyRecord.key)))).first() is not None


def _match_key(ticket: RequestClaim) -> list[ColumnElement[bool]]:
    return [col(IdempotencyRecord.project_id) == ticket.project_id, col(IdempotencyRecord.key) == ticket.key]


def _match_ticket(ticket: RequestClaim) -> list[ColumnElement[bool]]:
    return [*_match_key(ticket), col(IdempotencyRecord.owner) == ticket.owner, col(IdempotencyRecord.status).is_(None)]

"""Requests that must not be done twice: who does one, and what it was answered.

Two ways. A request with a key of its own is *taken* before it is done, and whoever comes meanwhile is told to wait.
A request that only a retry could repeat is not: its answer is *kept* in the transaction that makes the thing, so that
of two that are done at once the second one's transaction is undone.
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
"""A request taken so long ago without an answer has died with its process; all that make something are faster."""

_PRIMARY_KEY = [col(IdempotencyRecord.project_id), col(IdempotencyRecord.key)]


@dataclass(frozen=True)
class Ticket:
    """The right to do a request and to write its answer."""

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
    """The first request with this key is still being worked on."""


def new_ticket(project_id: str, key: str, fingerprint: str) -> Ticket:
    return Ticket(project_id, key, fingerprint, random_text(16))


async def claim(session: AsyncSession, ticket: Ticket) -> StoredResponse | None:
    """None: it is the caller's to do. Raises ``Reused``, ``Busy``."""
    now = time.time()
    stale = col(IdempotencyRecord.status).is_(None) & (col(IdempotencyRecord.created_at) < now - STALE_SECONDS)
    same = stale & (col(IdempotencyRecord.fingerprint) == ticket.fingerprint)
    if await _upsert(session, ticket, None, or_(col(IdempotencyRecord.created_at) < now - RETENTION_SECONDS, same)):
        return None
    row = (await session.execute(select(IdempotencyRecord).where(*_match_key(ticket)))).scalar_one()
    if row.fingerprint != ticket.fingerprint:
        raise KeyReused(ticket.key)
    if row.status is None:
        raise KeyInUse(ticket.key)
    return StoredResponse(row.status, row.body or "")


async def complete(session: AsyncSession, ticket: Ticket, response: StoredResponse) -> bool:
    """Write what a taken request was answered. False where another has taken it since."""
    statement = (
        update(IdempotencyRecord).where(*_match_ticket(ticket)).values(status=response.status, body=response.body)
    )
    return (await session.execute(statement.returning(col(IdempotencyRecord.key)))).first() is not None


async def release(session: AsyncSession, ticket: Ticket) -> None:
    """Not done after all: the next request with the key is the first one again."""
    await session.execute(delete(IdempotencyRecord).where(*_match_ticket(ticket)))


async def store(session: AsyncSession, ticket: Ticket, response: StoredResponse, max_age_seconds: float) -> bool:
    """Write the answer of a request that was not taken. False where one is there that is younger than ``seconds``."""
    return await _upsert(session, ticket, response, col(IdempotencyRecord.created_at) <= time.time() - max_age_seconds)


async def load(session: AsyncSession, ticket: Ticket, max_age_seconds: float) -> StoredResponse | None:
    """What the same request was answered within the last ``seconds``."""
    young = [
        *_match_key(ticket),
        col(IdempotencyRecord.created_at) > time.time() - max_age_seconds,
        col(IdempotencyRecord.status).is_not(None),
    ]
    row = (await session.execute(select(IdempotencyRecord).where(*young))).scalar_one_or_none()
    return StoredResponse(row.status or 0, row.body or "") if row else None


async def delete_expired(session: AsyncSession) -> None:
    """Rows of which nobody asks any more."""
    await session.execute(
        delete(IdempotencyRecord).where(col(IdempotencyRecord.created_at) < time.time() - RETENTION_SECONDS)
    )


async def _upsert(
    session: AsyncSession, ticket: Ticket, response: StoredResponse | None, replaceable: ColumnElement[bool]
) -> bool:
    """Insert the row, or replace one for which ``replaceable`` holds."""
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


def _match_key(ticket: Ticket) -> list[ColumnElement[bool]]:
    return [col(IdempotencyRecord.project_id) == ticket.project_id, col(IdempotencyRecord.key) == ticket.key]


def _match_ticket(ticket: Ticket) -> list[ColumnElement[bool]]:
    return [*_match_key(ticket), col(IdempotencyRecord.owner) == ticket.owner, col(IdempotencyRecord.status).is_(None)]

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
from storage.tables import Idempotent
from storage.upsert import inserting

DAY = 86_400.0
STALE_SECONDS = 60.0
"""A request taken so long ago without an answer has died with its process; all that make something are faster."""

_ID = [col(Idempotent.project_id), col(Idempotent.key)]


@dataclass(frozen=True)
class Ticket:
    """The right to do a request and to write its answer."""

    project_id: str
    key: str
    fingerprint: str
    owner: str


@dataclass(frozen=True)
class Answer:
    status: int
    body: str


class Reused(Exception):
    """The key was used for another request."""


class Busy(Exception):
    """The first request with this key is still being worked on."""


def ticket(project_id: str, key: str, fingerprint: str) -> Ticket:
    return Ticket(project_id, key, fingerprint, random_text(16))


async def take(session: AsyncSession, wanted: Ticket) -> Answer | None:
    """None: it is the caller's to do. Raises ``Reused``, ``Busy``."""
    now = time.time()
    stale = col(Idempotent.status).is_(None) & (col(Idempotent.created_at) < now - STALE_SECONDS)
    same = stale & (col(Idempotent.fingerprint) == wanted.fingerprint)
    if await _written(session, wanted, None, or_(col(Idempotent.created_at) < now - DAY, same)):
        return None
    row = (await session.execute(select(Idempotent).where(*_mine(wanted)))).scalar_one()
    if row.fingerprint != wanted.fingerprint:
        raise Reused(wanted.key)
    if row.status is None:
        raise Busy(wanted.key)
    return Answer(row.status, row.body or "")


async def answered(session: AsyncSession, held: Ticket, answer: Answer) -> bool:
    """Write what a taken request was answered. False where another has taken it since."""
    statement = update(Idempotent).where(*_held(held)).values(status=answer.status, body=answer.body)
    return (await session.execute(statement.returning(col(Idempotent.key)))).first() is not None


async def released(session: AsyncSession, held: Ticket) -> None:
    """Not done after all: the next request with the key is the first one again."""
    await session.execute(delete(Idempotent).where(*_held(held)))


async def keep(session: AsyncSession, wanted: Ticket, answer: Answer, seconds: float) -> bool:
    """Write the answer of a request that was not taken. False where one is there that is younger than ``seconds``."""
    return await _written(session, wanted, answer, col(Idempotent.created_at) <= time.time() - seconds)


async def kept(session: AsyncSession, wanted: Ticket, seconds: float) -> Answer | None:
    """What the same request was answered within the last ``seconds``."""
    young = [*_mine(wanted), col(Idempotent.created_at) > time.time() - seconds, col(Idempotent.status).is_not(None)]
    row = (await session.execute(select(Idempotent).where(*young))).scalar_one_or_none()
    return Answer(row.status or 0, row.body or "") if row else None


async def forget(session: AsyncSession) -> None:
    """Rows of which nobody asks any more."""
    await session.execute(delete(Idempotent).where(col(Idempotent.created_at) < time.time() - DAY))


async def _written(
    session: AsyncSession, wanted: Ticket, answer: Answer | None, replaceable: ColumnElement[bool]
) -> bool:
    """Insert the row, or replace one for which ``replaceable`` holds."""
    values = {
        "fingerprint": wanted.fingerprint,
        "owner": wanted.owner,
        "created_at": time.time(),
        "status": answer and answer.status,
        "body": answer and answer.body,
    }
    insert = inserting(session, Idempotent).values(project_id=wanted.project_id, key=wanted.key, **values)
    insert = insert.on_conflict_do_update(index_elements=_ID, set_=values, where=replaceable)
    return (await session.execute(insert.returning(col(Idempotent.key)))).first() is not None


def _mine(wanted: Ticket) -> list[ColumnElement[bool]]:
    return [col(Idempotent.project_id) == wanted.project_id, col(Idempotent.key) == wanted.key]


def _held(held: Ticket) -> list[ColumnElement[bool]]:
    return [*_mine(held), col(Idempotent.owner) == held.owner, col(Idempotent.status).is_(None)]

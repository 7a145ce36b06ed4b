"""Transactional outbox of webhook deliveries.

A delivery is inserted in the transaction of its event, claimed by a sender and ended. Functions
take a session of ``Database.write``, or a connection for queries, and do no other I/O.
"""

from __future__ import annotations

import json
import random
import secrets
import time
from typing import Any, Literal, get_args

from sqlalchemy import ColumnElement, delete, exists, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession
from sqlalchemy.orm import aliased
from sqlmodel import col

from storage.clock import db_now
from storage.ids import new_id
from storage.tables import Delivery, Webhook

EventType = Literal[
    "batch.cancelled",
    "batch.completed",
    "batch.expired",
    "batch.failed",
    "fine_tuning.job.cancelled",
    "fine_tuning.job.failed",
    "fine_tuning.job.succeeded",
]
EVENT_TYPES: tuple[str, ...] = get_args(EventType)

RETRY_DELAYS = (5.0, 30.0, 120.0, 600.0, 1800.0, 3600.0, 7200.0, 14400.0, 28800.0, 28800.0)
"""Seconds after each failed try. The try after the last delay, about a day later, is the last
one."""
JITTER = 0.2
MAX_CONSECUTIVE_FAILURES = 5
"""A webhook is disabled after this many failed deliveries in a row."""
RETENTION_SECONDS = 30 * 86400.0
"""Time for which an ended delivery is stored."""


async def enqueue(session: AsyncSession, project_id: str, event_type: str, object_id: str) -> None:
    """Enqueue an event for the project's webhooks that subscribe to it.

    An ``event_type`` that is not an ``EventType`` is ignored.
    """
    if event_type not in EVENT_TYPES:
        return
    # The lock prevents deletion of a webhook before the rows that reference it are inserted.
    query = select(Webhook).where(col(Webhook.project_id) == project_id, col(Webhook.disabled_at).is_(None))
    webhooks = (await session.execute(query.with_for_update(read=True, key_share=True))).scalars()
    session.add_all(
        build_delivery(webhook, event_type, object_id) for webhook in webhooks if event_type in webhook.events
    )


def build_delivery(webhook: Webhook, event_type: str, object_id: str) -> Delivery:
    """Build the delivery of one event to one webhook. Every try sends the same body."""
    delivery_id, now = new_id("delivery"), time.time()
    event = {
        "id": delivery_id,
        "object": "event",
        "created_at": int(now),
        "type": event_type,
        "data": {"id": object_id},
    }
    return Delivery(
        id=delivery_id,
        webhook_id=webhook.id,
        project_id=webhook.project_id,
        created_at=now,
        type=event_type,
        body=json.dumps(event, separators=(",", ":")),
    )


def _is_due() -> list[ColumnElement[bool]]:
    is_free = or_(col(Delivery.lease_until).is_(None), col(Delivery.lease_until) < db_now())
    return [col(Delivery.state) == "pending", col(Delivery.next_try_at) <= db_now(), is_free]


# Built once: an idle worker runs it every other second.
_DUE_QUERY = select(col(Delivery.id)).where(*_is_due()).limit(1)


async def has_due_delivery(connection: AsyncConnection) -> bool:
    """Return True if a delivery is due. This takes no lock, so ``claim`` may still find none."""
    return (await connection.execute(_DUE_QUERY)).first() is not None


async def claim(session: AsyncSession, sender: str, lease_seconds: float) -> tuple[Delivery, Webhook] | None:
    """Claim the delivery that has been due longest, and count a try.

    Webhooks with a delivery in progress are skipped.
    """
    in_progress = aliased(Delivery)
    is_busy = exists().where(
        col(in_progress.webhook_id) == col(Delivery.webhook_id),
        col(in_progress.state) == "pending",
        col(in_progress.lease_until) > db_now(),
    )
    chosen = (
        select(col(Delivery.id))
        .where(*_is_due(), ~is_busy)
        .order_by(col(Delivery.next_try_at), col(Delivery.created_at))
        .limit(1)
        .with_for_update(skip_locked=True)
        .scalar_subquery()
    )
    values = {
        "owner": f"{sender}:{secrets.token_hex(8)}",
        "lease_until": db_now() + lease_seconds,
        "tries": col(Delivery.tries) + 1,
    }
    statement = update(Delivery).where(col(Delivery.id) == chosen, col(Delivery.state) == "pending").values(**values)
    statement = statement.returning(Delivery).execution_options(synchronize_session=False, populate_existing=True)
    delivery = (await session.execute(statement)).scalar_one_or_none()
    if delivery is None:
        return None
    return delivery, await session.get_one(Webhook, delivery.webhook_id)


async def record_success(session: AsyncSession, delivery: Delivery, status_code: int) -> bool:
    """Record a successful try. Return False if the claim was lost to another sender."""
    if not await _finish_try(session, delivery, state="delivered", status_code=status_code, note=None):
        return False
    await session.execute(update(Webhook).where(col(Webhook.id) == delivery.webhook_id).values(failures=0))
    return True


async def record_failure(session: AsyncSession, delivery: Delivery, status_code: int | None, note: str) -> bool:
    """Schedule the next try, or give up after the last one. Return False if the claim was lost."""
    outcome: dict[str, Any] = {"status_code": status_code, "note": note}
    if delivery.tries <= len(RETRY_DELAYS):
        delay = RETRY_DELAYS[delivery.tries - 1] * random.uniform(1 - JITTER, 1 + JITTER)
        return await _finish_try(session, delivery, next_try_at=db_now() + delay, **outcome)
    if not await _finish_try(session, delivery, state="given_up", **outcome):
        return False
    statement = update(Webhook).where(col(Webhook.id) == delivery.webhook_id).values(failures=col(Webhook.failures) + 1)
    failures = (await session.execute(statement.returning(col(Webhook.failures)))).scalar_one_or_none()
    if failures is not None and failures >= MAX_CONSECUTIVE_FAILURES:
        reason = f"Disabled: {failures} events in a row could not be delivered, each tried for about a day."
        await disable(session, delivery.webhook_id, reason)
    return True


async def disable(session: AsyncSession, webhook_id: str, note: str | None) -> None:
    """Disable a webhook and give up its pending deliveries."""
    enabled = [col(Webhook.id) == webhook_id, col(Webhook.disabled_at).is_(None)]
    await session.execute(update(Webhook).where(*enabled).values(disabled_at=time.time(), note=note))
    pending = [col(Delivery.webhook_id) == webhook_id, col(Delivery.state) == "pending"]
    given_up = {"state": "given_up", "owner": None, "lease_until": None, "note": "The webhook was disabled."}
    await session.execute(update(Delivery).where(*pending).values(**given_up))


async def delete_old_deliveries(session: AsyncSession) -> None:
    """Delete ended deliveries that are older than ``RETENTION_SECONDS``."""
    old = [col(Delivery.state) != "pending", col(Delivery.created_at) < time.time() - RETENTION_SECONDS]
    await session.execute(delete(Delivery).where(*old))


async def _finish_try(session: AsyncSession, delivery: Delivery, **values: Any) -> bool:
    """Record the result of one try and release the claim. Return False if the claim was lost."""
    matches_claim = [
        col(Delivery.id) == delivery.id,
        col(Delivery.owner) == delivery.owner,
        col(Delivery.state) == "pending",
    ]
    statement = update(Delivery).where(*matches_claim).values(owner=None, lease_until=None, **values)
    return (await session.execute(statement.returning(col(Delivery.id)))).first() is not None

"""Webhook outbox and sender, on both databases.

A delivery is committed with its event or not at all, and retried until it arrives or is given up.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from ipaddress import ip_network
from typing import Any

import openai
import pytest
from sqlalchemy import select, update
from sqlmodel import col

from jobs.lifecycle import transitions
from jobs.lifecycle.states import SUCCEEDED
from jobs.lifecycle.transitions import NewEvent
from jobs.webhooks import outbox, sender, signing
from jobs.webhooks.sender import WebhookClient
from storage.db import Database
from storage.ids import new_id
from storage.settings import Settings
from storage.tables import Delivery, Job, Webhook
from tests.jobs.conftest import MakeJob
from tests.jobs.test_transitions import claim_or_fail, queue_next_job
from tests.webhook_receiver import Receiver, run_receiver

pytestmark = [pytest.mark.anyio, pytest.mark.integration]

WEBHOOK_CLIENT = WebhookClient((ip_network("127.0.0.0/8"),))
LEASE_SECONDS = 30.0


@pytest.fixture(scope="module")
def server() -> Iterator[Receiver]:
    with run_receiver() as receiver:
        yield receiver


@pytest.fixture
def receiver(server: Receiver) -> Receiver:
    for recorded in (server.statuses, server.bodies, server.headers):
        recorded.clear()
    return server


@pytest.fixture
def openai_client() -> Iterator[openai.OpenAI]:
    with openai.OpenAI(api_key="x", base_url="http://127.0.0.1:9") as client:
        yield client


async def insert_webhook(db: Database, project_id: str, url: str = "https://good.example/", **values: Any) -> Webhook:
    now = time.time()
    row = Webhook(
        **{
            "id": new_id("webhook"),
            "project_id": project_id,
            "created_at": now,
            "updated_at": now,
            "name": "w",
            "url": url,
            "secret": signing.generate_secret(),
            "events": list(outbox.EVENT_TYPES),
            **values,
        }
    )
    async with db.write() as session:
        session.add(row)
    return row


async def list_deliveries(db: Database) -> list[Delivery]:
    async with db.read() as session:
        return list((await session.execute(select(Delivery).order_by(col(Delivery.created_at)))).scalars())


async def reload_webhook(db: Database, webhook: Webhook) -> Webhook:
    async with db.read() as session:
        return await session.get_one(Webhook, webhook.id)


async def enqueue_event(
    db: Database, project_id: str, event_type: str = "batch.completed", object_id: str = "batch_x"
) -> None:
    async with db.write() as session:
        await outbox.enqueue(session, project_id, event_type, object_id)


async def claim(db: Database, lease: float = LEASE_SECONDS) -> Delivery | None:
    async with db.write() as session:
        claimed = await outbox.claim(session, "s", lease)
    return claimed[0] if claimed else None


async def send_next(db: Database) -> None:
    """Send the next delivery without waiting for its retry delay."""
    async with db.write() as session:
        await session.execute(update(Delivery).values(next_try_at=0.0))
    claimed = await sender.claim_delivery(db, "s")
    assert claimed is not None
    await sender.deliver(db, WEBHOOK_CLIENT, *claimed)


async def test_the_end_of_a_job_and_its_delivery_are_one_transaction(
    db: Database, project_id: str, make_job: MakeJob
) -> None:
    await insert_webhook(db, project_id)
    job = await make_job()
    await queue_next_job(db)
    held = await claim_or_fail(db)
    assert await list_deliveries(db) == []

    async def succeed() -> None:
        async with db.write() as session:
            await transitions.transition(session, held, SUCCEEDED, [NewEvent("done")])
            raise RuntimeError("the transaction breaks")

    with pytest.raises(RuntimeError):
        await succeed()
    assert await list_deliveries(db) == []
    async with db.write() as session:
        await transitions.transition(session, held, SUCCEEDED, [NewEvent("done")])
    [row] = await list_deliveries(db)
    event = json.loads(row.body)
    assert (row.type, row.state, row.tries) == ("fine_tuning.job.succeeded", "pending", 0)
    assert (event["id"], event["object"], event["type"]) == (row.id, "event", row.type)
    assert event["data"] == {"id": job.id}


async def test_every_end_of_a_job_is_enqueued(db: Database, project_id: str, make_job: MakeJob) -> None:
    await insert_webhook(db, project_id)
    jobs = [await make_job() for _ in range(3)]
    async with db.write() as session:
        await transitions.cancel(session, project_id, jobs[0].id)
    first, second = await claim_or_fail(db, "validate"), await claim_or_fail(db, "validate")
    async with db.write() as session:
        await transitions.fail(session, first, {"code": "invalid_dataset", "message": "no", "param": None})
        await transitions.crash(session, second, {"code": "stalled", "message": "no", "param": None}, 1)
    kinds = [row.type for row in await list_deliveries(db)]
    assert sorted(kinds) == ["fine_tuning.job.cancelled", "fine_tuning.job.failed", "fine_tuning.job.failed"]


async def test_other_events_are_not_enqueued(db: Database, project_id: str, make_job: MakeJob) -> None:
    await insert_webhook(db, project_id)
    await make_job()
    await queue_next_job(db)
    await claim_or_fail(db)
    await enqueue_event(db, project_id, "batch.finalizing")
    assert await list_deliveries(db) == []


async def test_only_subscribed_webhooks_get_a_delivery(db: Database, project_id: str) -> None:
    subscribed = await insert_webhook(db, project_id, events=["batch.completed", "batch.failed"])
    await insert_webhook(db, project_id, events=["batch.expired"])
    await insert_webhook(db, project_id, disabled_at=1.0)
    await enqueue_event(db, project_id)
    await enqueue_event(db, "proj_other")
    assert [row.webhook_id for row in await list_deliveries(db)] == [subscribed.id]


async def test_failing_twice_then_accepted(
    db: Database, project_id: str, receiver: Receiver, openai_client: openai.OpenAI
) -> None:
    receiver.statuses += [500, 302]
    webhook = await insert_webhook(db, project_id, receiver.build_url(), failures=3)
    await enqueue_event(db, project_id)
    for tries, state in ((1, "pending"), (2, "pending"), (3, "delivered")):
        await send_next(db)
        [row] = await list_deliveries(db)
        assert (row.tries, row.state, row.owner) == (tries, state, None)
    assert (row.status_code, row.note) == (200, None)
    assert len(set(receiver.bodies)) == 1
    assert {headers["webhook-id"] for headers in receiver.headers} == {row.id}
    assert await claim(db) is None
    assert (await reload_webhook(db, webhook)).failures == 0
    for body, headers in zip(receiver.bodies, receiver.headers, strict=True):
        event = openai_client.webhooks.unwrap(body, headers, secret=webhook.secret)
        assert (event.type, event.data.id) == ("batch.completed", "batch_x")
        with pytest.raises(openai.InvalidWebhookSignatureError):
            openai_client.webhooks.unwrap(body, headers, secret=signing.generate_secret())
        with pytest.raises(openai.InvalidWebhookSignatureError):
            openai_client.webhooks.unwrap(body + b" ", headers, secret=webhook.secret)


async def test_retry_delays_grow_to_a_day(db: Database, project_id: str, receiver: Receiver) -> None:
    receiver.statuses += [503] * 3
    await insert_webhook(db, project_id, receiver.build_url())
    await enqueue_event(db, project_id)
    for delay in outbox.RETRY_DELAYS[:3]:
        sent_at = time.time()
        await send_next(db)
        [row] = await list_deliveries(db)
        assert 0.79 * delay < row.next_try_at - sent_at < 1.21 * delay + 5
        assert (row.state, row.note) == ("pending", "The response was 503, not 2xx.")
    assert await claim(db) is None
    assert 20 * 3600 < sum(outbox.RETRY_DELAYS) < 28 * 3600
    assert list(outbox.RETRY_DELAYS) == sorted(outbox.RETRY_DELAYS)


async def test_giving_up_and_disabling(db: Database, project_id: str, receiver: Receiver) -> None:
    receiver.statuses += [500] * 2
    webhook = await insert_webhook(db, project_id, receiver.build_url(), failures=outbox.MAX_CONSECUTIVE_FAILURES - 2)
    for _ in range(3):
        await enqueue_event(db, project_id)
    for failures_left in (1, 0):
        async with db.write() as session:
            await session.execute(update(Delivery).values(tries=len(outbox.RETRY_DELAYS)))
        await send_next(db)
        webhook = await reload_webhook(db, webhook)
        assert (webhook.disabled_at is None) == bool(failures_left)
    assert webhook.note is not None
    assert webhook.note.startswith("Disabled: 5 events")
    assert {row.state for row in await list_deliveries(db)} == {"given_up"}
    assert len(receiver.bodies) == 2
    assert await claim(db) is None
    await enqueue_event(db, project_id)
    assert len(await list_deliveries(db)) == 3


async def test_one_sender_at_a_time(db: Database, project_id: str) -> None:
    for _ in range(3):
        await insert_webhook(db, project_id)
    for _ in range(2):
        await enqueue_event(db, project_id)
    claimed = [row for row in [await claim(db) for _ in range(5)] if row]
    assert len({row.webhook_id for row in claimed}) == len(claimed) == 3
    async with db.write() as session:
        assert await outbox.record_success(session, claimed[0], 200)
    next_claimed = await claim(db)
    assert next_claimed is not None
    assert next_claimed.webhook_id == claimed[0].webhook_id
    assert next_claimed.id != claimed[0].id


async def test_concurrent_claims_take_each_delivery_once(db: Database, project_id: str) -> None:
    for _ in range(6):
        await insert_webhook(db, project_id)
    await enqueue_event(db, project_id)
    ids = [row.id for row in await asyncio.gather(*(claim(db) for _ in range(12))) if row]
    assert len(set(ids)) == len(ids) == 6


async def test_a_sender_that_comes_back_late_writes_nothing(db: Database, project_id: str) -> None:
    await insert_webhook(db, project_id)
    await enqueue_event(db, project_id)
    late = await claim(db, lease=0.05)
    await asyncio.sleep(0.1)
    claimed = await claim(db)
    assert late is not None
    assert claimed is not None
    assert (claimed.id, claimed.tries) == (late.id, 2)
    async with db.write() as session:
        assert not await outbox.record_success(session, late, 200)
        assert not await outbox.record_failure(session, late, 500, "no")
        assert await outbox.record_failure(session, claimed, None, "no")
        assert not await outbox.record_success(session, claimed, 200)


async def test_old_deliveries_are_deleted(db: Database, project_id: str) -> None:
    await insert_webhook(db, project_id)
    for _ in range(2):
        await enqueue_event(db, project_id)
    first, _ = await list_deliveries(db)
    async with db.write() as session:
        await session.execute(update(Delivery).values(created_at=1.0))
        await session.execute(update(Delivery).where(col(Delivery.id) == first.id).values(state="delivered"))
        await outbox.delete_old_deliveries(session)
    assert [row.state for row in await list_deliveries(db)] == ["pending"]


async def test_two_secrets_sign_while_they_change(
    db: Database, project_id: str, receiver: Receiver, openai_client: openai.OpenAI
) -> None:
    old, expired = signing.generate_secret(), signing.generate_secret()
    webhook = await insert_webhook(
        db, project_id, receiver.build_url(), old_secret=old, old_secret_until=time.time() + 60
    )
    await enqueue_event(db, project_id)
    await send_next(db)
    body, headers = receiver.bodies[0], receiver.headers[0]
    for secret in (old, webhook.secret):
        assert openai_client.webhooks.unwrap(body, headers, secret=secret).type == "batch.completed"
    async with db.write() as session:
        await session.execute(update(Webhook).values(old_secret=expired, old_secret_until=time.time() - 1))
    await enqueue_event(db, project_id)
    await send_next(db)
    with pytest.raises(openai.InvalidWebhookSignatureError):
        openai_client.webhooks.unwrap(receiver.bodies[1], receiver.headers[1], secret=expired)


async def test_a_worker_sends(
    db: Database, project_id: str, receiver: Receiver, make_job: MakeJob, tmp_path: Any
) -> None:
    await insert_webhook(db, project_id, receiver.build_url())
    job = await make_job()
    settings = Settings(home=tmp_path, poll_seconds=0.05, webhook_networks="127.0.0.0/8")
    sender_task = asyncio.create_task(sender.run_sender(db, settings))
    async with db.write() as session:
        await transitions.cancel(session, project_id, job.id)
    for _ in range(500):
        if (await list_deliveries(db))[0].state == "delivered":
            break
        await asyncio.sleep(0.02)
    sender_task.cancel()
    await asyncio.gather(sender_task, return_exceptions=True)
    assert json.loads(receiver.bodies[0])["data"] == {"id": job.id}


async def test_a_deleted_webhook_does_not_break_the_end_of_a_job(
    db: Database, project_id: str, make_job: MakeJob
) -> None:
    """Deletion and cancellation both succeed, in either order."""
    for _ in range(5):
        webhook = await insert_webhook(db, project_id)
        job = await make_job()

        async def delete(webhook_id: str = webhook.id) -> None:
            async with db.write() as session:
                await session.execute(select(Webhook).where(col(Webhook.id) == webhook_id).with_for_update())
                for table, column in ((Delivery, col(Delivery.webhook_id)), (Webhook, col(Webhook.id))):
                    for row in (await session.execute(select(table).where(column == webhook_id))).scalars():
                        await session.delete(row)
                    await session.flush()

        async def cancel(job_id: str = job.id) -> None:
            async with db.write() as session:
                await transitions.cancel(session, project_id, job_id)

        await asyncio.gather(delete(), cancel())
        async with db.read() as session:
            assert (await session.get_one(Job, job.id)).state == "cancelled"
            assert await session.get(Webhook, webhook.id) is None

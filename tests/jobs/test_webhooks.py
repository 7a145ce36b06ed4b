"""The outbox: told with what happened or not at all, tried until it arrives or is given up. On both databases."""

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
from jobs.webhooks.sender import Post
from storage.db import Database
from storage.ids import new_id
from storage.settings import Settings
from storage.tables import Delivery, Job, Webhook
from tests.jobs.conftest import MakeJob
from tests.jobs.test_transitions import claimed, queue
from tests.webhook_receiver import Receiver, receiving

pytestmark = pytest.mark.anyio

POST = Post((ip_network("127.0.0.0/8"),))
LEASE = 30.0


@pytest.fixture(scope="module")
def server() -> Iterator[Receiver]:
    with receiving() as found:
        yield found


@pytest.fixture
def receiver(server: Receiver) -> Receiver:
    for kept in (server.statuses, server.bodies, server.headers):
        kept.clear()
    return server


@pytest.fixture
def openai_client() -> Iterator[openai.OpenAI]:
    with openai.OpenAI(api_key="x", base_url="http://127.0.0.1:9") as client:
        yield client


async def hook(db: Database, project_id: str, url: str = "https://good.example/", **values: Any) -> Webhook:
    now = time.time()
    row = Webhook(
        **{
            "id": new_id("webhook"),
            "project_id": project_id,
            "created_at": now,
            "updated_at": now,
            "name": "w",
            "url": url,
            "secret": signing.new_secret(),
            "events": list(outbox.EVENT_TYPES),
            **values,
        }
    )
    async with db.write() as session:
        session.add(row)
    return row


async def deliveries(db: Database) -> list[Delivery]:
    async with db.read() as session:
        return list((await session.execute(select(Delivery).order_by(col(Delivery.created_at)))).scalars())


async def reread(db: Database, webhook: Webhook) -> Webhook:
    async with db.read() as session:
        return await session.get_one(Webhook, webhook.id)


async def told(db: Database, project_id: str, kind: str = "batch.completed", object_id: str = "batch_x") -> None:
    async with db.write() as session:
        await outbox.tell(session, project_id, kind, object_id)


async def claim(db: Database, lease: float = LEASE) -> Delivery | None:
    async with db.write() as session:
        found = await outbox.claim(session, "s", lease)
    return found[0] if found else None


async def send_next(db: Database) -> None:
    """Whatever is next, as if its pause were over."""
    async with db.write() as session:
        await session.execute(update(Delivery).values(next_at=0.0))
    found = await sender.claimed(db, "s")
    assert found is not None
    await sender.deliver(db, POST, *found)


async def test_the_end_of_a_job_and_its_telling_are_one(db: Database, project_id: str, make_job: MakeJob) -> None:
    await hook(db, project_id)
    job = await make_job()
    await queue(db)
    held = await claimed(db)
    assert await deliveries(db) == []

    async def succeed() -> None:
        async with db.write() as session:
            await transitions.move(session, held, SUCCEEDED, [NewEvent("done")])
            raise RuntimeError("the transaction breaks")

    with pytest.raises(RuntimeError):
        await succeed()
    assert await deliveries(db) == []
    async with db.write() as session:
        await transitions.move(session, held, SUCCEEDED, [NewEvent("done")])
    [row] = await deliveries(db)
    event = json.loads(row.body)
    assert (row.type, row.state, row.tries) == ("fine_tuning.job.succeeded", "pending", 0)
    assert (event["id"], event["object"], event["type"]) == (row.id, "event", row.type)
    assert event["data"] == {"id": job.id}


async def test_every_end_of_a_job_is_told(db: Database, project_id: str, make_job: MakeJob) -> None:
    await hook(db, project_id)
    jobs = [await make_job() for _ in range(3)]
    async with db.write() as session:
        await transitions.cancel(session, project_id, jobs[0].id)
    first, second = await claimed(db, "validate"), await claimed(db, "validate")
    async with db.write() as session:
        await transitions.fail(session, first, {"code": "invalid_dataset", "message": "no", "param": None})
        await transitions.crash(session, second, {"code": "stalled", "message": "no", "param": None}, 1)
    kinds = [row.type for row in await deliveries(db)]
    assert sorted(kinds) == ["fine_tuning.job.cancelled", "fine_tuning.job.failed", "fine_tuning.job.failed"]


async def test_what_is_no_end_is_not_told(db: Database, project_id: str, make_job: MakeJob) -> None:
    await hook(db, project_id)
    await make_job()
    await queue(db)
    await claimed(db)
    await told(db, project_id, "batch.finalizing")
    assert await deliveries(db) == []


async def test_only_those_who_want_it_are_told(db: Database, project_id: str) -> None:
    wanting = await hook(db, project_id, events=["batch.completed", "batch.failed"])
    await hook(db, project_id, events=["batch.expired"])
    await hook(db, project_id, disabled_at=1.0)
    await told(db, project_id)
    await told(db, "proj_other")
    assert [row.webhook_id for row in await deliveries(db)] == [wanting.id]


async def test_failing_twice_then_accepted(
    db: Database, project_id: str, receiver: Receiver, openai_client: openai.OpenAI
) -> None:
    receiver.statuses += [500, 302]
    webhook = await hook(db, project_id, receiver.url(), failures=3)
    await told(db, project_id)
    for tries, state in ((1, "pending"), (2, "pending"), (3, "delivered")):
        await send_next(db)
        [row] = await deliveries(db)
        assert (row.tries, row.state, row.owner) == (tries, state, None)
    assert (row.status_code, row.note) == (200, None)
    assert len(set(receiver.bodies)) == 1
    assert {found["webhook-id"] for found in receiver.headers} == {row.id}
    assert await claim(db) is None
    assert (await reread(db, webhook)).failures == 0
    for body, headers in zip(receiver.bodies, receiver.headers, strict=True):
        event = openai_client.webhooks.unwrap(body, headers, secret=webhook.secret)
        assert (event.type, event.data.id) == ("batch.completed", "batch_x")
        with pytest.raises(openai.InvalidWebhookSignatureError):
            openai_client.webhooks.unwrap(body, headers, secret=signing.new_secret())
        with pytest.raises(openai.InvalidWebhookSignatureError):
            openai_client.webhooks.unwrap(body + b" ", headers, secret=webhook.secret)


async def test_pauses_grow_to_a_day(db: Database, project_id: str, receiver: Receiver) -> None:
    receiver.statuses += [503] * 3
    await hook(db, project_id, receiver.url())
    await told(db, project_id)
    for pause in outbox.PAUSES[:3]:
        before = time.time()
        await send_next(db)
        [row] = await deliveries(db)
        assert 0.79 * pause < row.next_at - before < 1.21 * pause + 5
        assert (row.state, row.note) == ("pending", "The answer was 503, not 2xx.")
    assert await claim(db) is None
    assert 20 * 3600 < sum(outbox.PAUSES) < 28 * 3600
    assert list(outbox.PAUSES) == sorted(outbox.PAUSES)


async def test_giving_up_and_disabling(db: Database, project_id: str, receiver: Receiver) -> None:
    receiver.statuses += [500] * 2
    webhook = await hook(db, project_id, receiver.url(), failures=outbox.MOST_GIVEN_UP - 2)
    for _ in range(3):
        await told(db, project_id)
    for left in (1, 0):
        async with db.write() as session:
            await session.execute(update(Delivery).values(tries=len(outbox.PAUSES)))
        await send_next(db)
        kept = await reread(db, webhook)
        assert (kept.disabled_at is None) == bool(left)
    assert kept.note is not None
    assert kept.note.startswith("Disabled: 5 events")
    assert {row.state for row in await deliveries(db)} == {"given_up"}
    assert len(receiver.bodies) == 2
    assert await claim(db) is None
    await told(db, project_id)
    assert len(await deliveries(db)) == 3


async def test_one_sender_at_a_time(db: Database, project_id: str) -> None:
    for _ in range(3):
        await hook(db, project_id)
    for _ in range(2):
        await told(db, project_id)
    taken = [row for row in [await claim(db) for _ in range(5)] if row]
    assert len({row.webhook_id for row in taken}) == len(taken) == 3
    async with db.write() as session:
        assert await outbox.arrived(session, taken[0], 200)
    again = await claim(db)
    assert again is not None
    assert again.webhook_id == taken[0].webhook_id
    assert again.id != taken[0].id


async def test_many_claims_at_once_take_each_once(db: Database, project_id: str) -> None:
    for _ in range(6):
        await hook(db, project_id)
    await told(db, project_id)
    found = [row.id for row in await asyncio.gather(*(claim(db) for _ in range(12))) if row]
    assert len(set(found)) == len(found) == 6


async def test_a_sender_that_comes_back_late_says_nothing(db: Database, project_id: str) -> None:
    await hook(db, project_id)
    await told(db, project_id)
    late = await claim(db, lease=0.05)
    await asyncio.sleep(0.1)
    taken = await claim(db)
    assert late is not None
    assert taken is not None
    assert (taken.id, taken.tries) == (late.id, 2)
    async with db.write() as session:
        assert not await outbox.arrived(session, late, 200)
        assert not await outbox.failed(session, late, 500, "no")
        assert await outbox.failed(session, taken, None, "no")
        assert not await outbox.arrived(session, taken, 200)


async def test_old_deliveries_are_forgotten(db: Database, project_id: str) -> None:
    await hook(db, project_id)
    for _ in range(2):
        await told(db, project_id)
    first, _ = await deliveries(db)
    async with db.write() as session:
        await session.execute(update(Delivery).values(created_at=1.0))
        await session.execute(update(Delivery).where(col(Delivery.id) == first.id).values(state="delivered"))
        await outbox.forget(session)
    assert [row.state for row in await deliveries(db)] == ["pending"]


async def test_two_secrets_sign_while_they_change(
    db: Database, project_id: str, receiver: Receiver, openai_client: openai.OpenAI
) -> None:
    old, gone = signing.new_secret(), signing.new_secret()
    soon = await hook(db, project_id, receiver.url(), old_secret=old, old_secret_until=time.time() + 60)
    await told(db, project_id)
    await send_next(db)
    body, headers = receiver.bodies[0], receiver.headers[0]
    for secret in (old, soon.secret):
        assert openai_client.webhooks.unwrap(body, headers, secret=secret).type == "batch.completed"
    async with db.write() as session:
        await session.execute(update(Webhook).values(old_secret=gone, old_secret_until=time.time() - 1))
    await told(db, project_id)
    await send_next(db)
    with pytest.raises(openai.InvalidWebhookSignatureError):
        openai_client.webhooks.unwrap(receiver.bodies[1], receiver.headers[1], secret=gone)


async def test_a_worker_sends(
    db: Database, project_id: str, receiver: Receiver, make_job: MakeJob, tmp_path: Any
) -> None:
    await hook(db, project_id, receiver.url())
    job = await make_job()
    settings = Settings(home=tmp_path, poll_seconds=0.05, webhook_networks="127.0.0.0/8")
    sending = asyncio.create_task(sender.send_for_ever(db, settings))
    async with db.write() as session:
        await transitions.cancel(session, project_id, job.id)
    for _ in range(500):
        if (await deliveries(db))[0].state == "delivered":
            break
        await asyncio.sleep(0.02)
    sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)
    assert json.loads(receiver.bodies[0])["data"] == {"id": job.id}


async def test_a_deleted_webhook_does_not_break_the_end_of_a_job(
    db: Database, project_id: str, make_job: MakeJob
) -> None:
    """Whoever comes first, both get done."""
    for _ in range(5):
        webhook = await hook(db, project_id)
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

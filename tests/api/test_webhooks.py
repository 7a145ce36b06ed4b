"""Webhooks through the official client: made, changed, tested, and told of the ends of jobs and batches."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from sqlalchemy import update

from jobs.webhooks import outbox, sender
from storage import db as databases
from storage.ids import new_id
from storage.tables import Delivery
from tests.api.stack import Stack, run_stack
from tests.api.test_errors import assert_error
from tests.webhook_receiver import Receiver, run_receiver

URL = "https://hooks.invalid/luthier"
EVENT_TYPES: list[Any] = ["fine_tuning.job.succeeded", "batch.completed"]


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """Its operator lets webhooks go to this machine."""
    with (
        tempfile.TemporaryDirectory(prefix="luthier-") as home,
        run_stack(Path(home), webhook_networks="127.0.0.0/8") as running,
    ):
        yield running


@pytest.fixture(scope="module")
def server() -> Iterator[Receiver]:
    with run_receiver() as found:
        yield found


@pytest.fixture
def receiver(server: Receiver) -> Receiver:
    for kept in (server.statuses, server.bodies, server.headers):
        kept.clear()
    return server


def deliver_once(stack: Stack) -> bool:
    """A sender's turn. False where nothing was due."""

    async def turn() -> bool:
        db = databases.connect(stack.settings.database_url)
        try:
            found = await sender.claim_delivery(db, "s")
            if found:
                await sender.deliver(db, sender.create_webhook_client(stack.settings), *found)
            return found is not None
        finally:
            await db.close()

    return asyncio.run(turn())


def test_created_updated_and_deleted(stack: Stack) -> None:
    stack = stack.with_new_project()
    client = stack.get_client()
    made = client.webhooks.create(name="release", url=URL, event_types=EVENT_TYPES)
    assert (made.object, made.name, made.url, made.event_types) == ("webhook_endpoint", "release", URL, EVENT_TYPES)
    assert made.signing_secret.startswith("whsec_")
    kept = client.webhooks.retrieve(made.id)
    assert kept.signing_secret_hint not in (None, made.signing_secret)
    assert not hasattr(kept, "signing_secret")
    changed = client.webhooks.update(made.id, name="other", event_types=["batch.failed"])
    assert (changed.name, changed.url, changed.event_types) == ("other", URL, ["batch.failed"])
    assert (changed.updated_at or 0) >= made.created_at
    second = client.webhooks.create(name="second", url=URL, event_types=EVENT_TYPES)
    assert [each.id for each in client.webhooks.list(limit=1)] == [second.id, made.id]
    gone = client.webhooks.delete(made.id)
    assert (gone.deleted, gone.object) == (True, "webhook_endpoint.deleted")
    with pytest.raises(openai.NotFoundError):
        client.webhooks.retrieve(made.id)


def test_event_types(stack: Stack) -> None:
    assert stack.get_client().webhooks.event_types.list().data == list(outbox.EVENT_TYPES)


def test_a_test_delivery(stack: Stack, receiver: Receiver) -> None:
    client = stack.get_client()
    made = client.webhooks.create(name="w", url=receiver.build_url(), event_types=EVENT_TYPES)
    receiver.statuses.append(418)
    tested = client.webhooks.test(made.id, event_type="batch.expired")
    assert (tested.status_code, tested.success, tested.event_type) == (418, True, "batch.expired")
    event = client.webhooks.unwrap(receiver.bodies[0], receiver.headers[0], secret=made.signing_secret)
    assert event.type == "batch.expired"
    assert event.data.id.startswith("batch_")
    moved = client.webhooks.update(made.id, url=receiver.build_url("/redirect"))
    assert client.webhooks.test(moved.id, event_type="batch.failed").status_code == 307
    assert len(receiver.bodies) == 1


def test_a_test_delivery_to_an_unreachable_url(stack: Stack) -> None:
    with run_receiver() as gone:
        url = gone.build_url()
    made = stack.get_client().webhooks.create(name="w", url=url, event_types=EVENT_TYPES)
    with pytest.raises(openai.BadRequestError, match="connection failed") as caught:
        stack.get_client().webhooks.test(made.id, event_type="batch.failed")
    assert caught.value.code == "webhook_unreachable"


def test_a_cancelled_job_is_delivered(stack: Stack, receiver: Receiver) -> None:
    stack = stack.with_new_project()
    client = stack.get_client()
    made = client.webhooks.create(name="w", url=receiver.build_url(), event_types=["fine_tuning.job.cancelled"])
    job = stack.insert_job()
    receiver.statuses.append(500)
    client.fine_tuning.jobs.cancel(job.id)
    assert deliver_once(stack)
    with stack.open_http() as http:
        [waiting] = http.get(f"/v1/webhook_endpoints/{made.id}/deliveries").json()["data"]
        assert (waiting["state"], waiting["tries"], waiting["status_code"]) == ("pending", 1, 500)
        assert waiting["next_try_at"] > time.time()
        assert not deliver_once(stack)
        stack.run_in_session(_make_due)
        assert deliver_once(stack)
        [arrived] = http.get(f"/v1/webhook_endpoints/{made.id}/deliveries").json()["data"]
    assert (arrived["state"], arrived["tries"], arrived["next_try_at"]) == ("delivered", 2, None)
    event = client.webhooks.unwrap(receiver.bodies[1], receiver.headers[1], secret=made.signing_secret)
    assert (event.id, event.type, event.data.id) == (arrived["id"], "fine_tuning.job.cancelled", job.id)
    with pytest.raises(openai.InvalidWebhookSignatureError):
        client.webhooks.unwrap(receiver.bodies[1], receiver.headers[1], secret="whsec_" + "A" * 44)


async def _make_due(session: Any) -> None:
    await session.execute(update(Delivery).values(next_try_at=0.0))


def test_rotating_the_secret(stack: Stack, receiver: Receiver) -> None:
    client = stack.get_client()
    made = client.webhooks.create(name="w", url=receiver.build_url(), event_types=EVENT_TYPES)
    kept = client.webhooks.rotate_secret(made.id, keep_old_secret_active_for_24_hours=True)
    assert kept.signing_secret != made.signing_secret
    client.webhooks.test(made.id, event_type="batch.failed")
    for secret in (made.signing_secret, kept.signing_secret):
        client.webhooks.unwrap(receiver.bodies[0], receiver.headers[0], secret=secret)
    last = client.webhooks.rotate_secret(made.id)
    client.webhooks.test(made.id, event_type="batch.failed")
    client.webhooks.unwrap(receiver.bodies[1], receiver.headers[1], secret=last.signing_secret)
    with pytest.raises(openai.InvalidWebhookSignatureError):
        client.webhooks.unwrap(receiver.bodies[1], receiver.headers[1], secret=kept.signing_secret)


def test_disabling_drops_pending_deliveries(stack: Stack, receiver: Receiver) -> None:
    stack = stack.with_new_project()
    client = stack.get_client()
    made = client.webhooks.create(name="w", url=receiver.build_url(), event_types=["fine_tuning.job.cancelled"])
    client.fine_tuning.jobs.cancel(stack.insert_job().id)
    off = client.webhooks.update(made.id, extra_body={"enabled": False})
    assert (off.model_extra or {})["enabled"] is False
    client.fine_tuning.jobs.cancel(stack.insert_job().id)
    assert not deliver_once(stack)
    on = client.webhooks.update(made.id, extra_body={"enabled": True})
    assert ((on.model_extra or {})["enabled"], (on.model_extra or {})["disabled_at"]) == (True, None)
    client.fine_tuning.jobs.cancel(stack.insert_job().id)
    assert deliver_once(stack)
    assert not deliver_once(stack)
    with stack.open_http() as http:
        states = [each["state"] for each in http.get(f"/v1/webhook_endpoints/{made.id}/deliveries").json()["data"]]
    assert states == ["delivered", "given_up"]
    assert client.webhooks.delete(made.id).deleted


INVALID_CHANGES: dict[str, tuple[dict[str, Any], str]] = {
    "private": ({"url": "https://10.0.0.1/"}, "url"),
    "metadata": ({"url": "https://169.254.169.254/latest/"}, "url"),
    "no https": ({"url": "http://93.184.216.34/"}, "url"),
    "port": ({"url": "https://93.184.216.34:6379/"}, "url"),
    "user": ({"url": "https://a:b@93.184.216.34/"}, "url"),
    "no url": ({"url": "hooks"}, "url"),
    "long": ({"url": URL + "x" * 3000}, "url"),
    "name": ({"name": ""}, "name"),
    "no events": ({"event_types": []}, "event_types"),
    "unknown event": ({"event_types": ["response.completed"]}, "event_types.0"),
    "more": ({"colour": "red"}, "colour"),
}


@pytest.mark.parametrize("name", INVALID_CHANGES)
def test_what_create_and_update_refuse(stack: Stack, name: str) -> None:
    changed, param = INVALID_CHANGES[name]
    with stack.open_http() as http:
        body = {"name": "w", "url": URL, "event_types": EVENT_TYPES}
        assert assert_error(http.post("/v1/webhook_endpoints", json={**body, **changed}), 400)["param"] == param
        made = http.post("/v1/webhook_endpoints", json=body).json()
        assert assert_error(http.post(f"/v1/webhook_endpoints/{made['id']}", json=changed), 400)["param"] == param


def test_the_number_of_webhooks_is_limited(stack: Stack) -> None:
    stack = stack.with_new_project()
    with stack.open_http() as http:
        body = {"name": "w", "url": "https://93.184.216.34/", "event_types": EVENT_TYPES}
        statuses = [http.post("/v1/webhook_endpoints", json=body).status_code for _ in range(51)]
    assert statuses == [200] * 50 + [400]


def test_another_projects_webhook_looks_unknown(stack: Stack) -> None:
    made = stack.as_other_tenant().get_client().webhooks.create(name="w", url=URL, event_types=EVENT_TYPES)
    asked: list[tuple[str, str, Any]] = [
        ("GET", "", None),
        ("POST", "", {"name": "mine"}),
        ("DELETE", "", None),
        ("POST", "/rotate_secret", None),
        ("POST", "/test", {"event_type": "batch.failed"}),
        ("GET", "/deliveries", None),
    ]
    with stack.open_http() as http:
        for method, path, body in asked:
            theirs, none = (
                http.request(method, f"/v1/webhook_endpoints/{each}{path}", json=body)
                for each in (made.id, new_id("webhook"))
            )
            assert assert_error(theirs, 404)["param"] == "webhook_endpoint_id"
            assert theirs.content == none.content
    assert stack.as_other_tenant().get_client().webhooks.retrieve(made.id).name == "w"

"""Webhooks through the official client: creation, changes, test deliveries and real deliveries."""

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
    """A stack whose operator allows webhooks to this machine."""
    with (
        tempfile.TemporaryDirectory(prefix="luthier-") as home,
        run_stack(Path(home), webhook_networks="127.0.0.0/8") as running,
    ):
        yield running


@pytest.fixture(scope="module")
def server() -> Iterator[Receiver]:
    with run_receiver() as receiver:
        yield receiver


@pytest.fixture
def receiver(server: Receiver) -> Receiver:
    for recorded in (server.statuses, server.bodies, server.headers):
        recorded.clear()
    return server


def deliver_once(stack: Stack) -> bool:
    """Send one delivery, as a sender does. Returns False if none was due."""

    async def deliver() -> bool:
        db = databases.connect(stack.settings.database_url)
        try:
            delivery = await sender.claim_delivery(db, "s")
            if delivery:
                await sender.deliver(db, sender.create_webhook_client(stack.settings), *delivery)
            return delivery is not None
        finally:
            await db.close()

    return asyncio.run(deliver())


def test_created_updated_and_deleted(stack: Stack) -> None:
    stack = stack.with_new_project()
    client = stack.get_client()
    webhook = client.webhooks.create(name="release", url=URL, event_types=EVENT_TYPES)
    assert (webhook.object, webhook.name, webhook.url, webhook.event_types) == (
        "webhook_endpoint",
        "release",
        URL,
        EVENT_TYPES,
    )
    assert webhook.signing_secret.startswith("whsec_")
    stored = client.webhooks.retrieve(webhook.id)
    assert stored.signing_secret_hint not in (None, webhook.signing_secret)
    assert not hasattr(stored, "signing_secret")
    changed = client.webhooks.update(webhook.id, name="other", event_types=["batch.failed"])
    assert (changed.name, changed.url, changed.event_types) == ("other", URL, ["batch.failed"])
    assert (changed.updated_at or 0) >= webhook.created_at
    second = client.webhooks.create(name="second", url=URL, event_types=EVENT_TYPES)
    assert [listed.id for listed in client.webhooks.list(limit=1)] == [second.id, webhook.id]
    deleted = client.webhooks.delete(webhook.id)
    assert (deleted.deleted, deleted.object) == (True, "webhook_endpoint.deleted")
    with pytest.raises(openai.NotFoundError):
        client.webhooks.retrieve(webhook.id)


def test_event_types(stack: Stack) -> None:
    assert stack.get_client().webhooks.event_types.list().data == list(outbox.EVENT_TYPES)


def test_a_test_delivery(stack: Stack, receiver: Receiver) -> None:
    client = stack.get_client()
    webhook = client.webhooks.create(name="w", url=receiver.build_url(), event_types=EVENT_TYPES)
    receiver.statuses.append(418)
    tested = client.webhooks.test(webhook.id, event_type="batch.expired")
    assert (tested.status_code, tested.success, tested.event_type) == (418, True, "batch.expired")
    event = client.webhooks.unwrap(receiver.bodies[0], receiver.headers[0], secret=webhook.signing_secret)
    assert event.type == "batch.expired"
    assert event.data.id.startswith("batch_")
    moved = client.webhooks.update(webhook.id, url=receiver.build_url("/redirect"))
    assert client.webhooks.test(moved.id, event_type="batch.failed").status_code == 307
    assert len(receiver.bodies) == 1


def test_a_test_delivery_to_an_unreachable_url(stack: Stack) -> None:
    with run_receiver() as stopped:
        url = stopped.build_url()
    webhook = stack.get_client().webhooks.create(name="w", url=url, event_types=EVENT_TYPES)
    with pytest.raises(openai.BadRequestError, match="connection failed") as caught:
        stack.get_client().webhooks.test(webhook.id, event_type="batch.failed")
    assert caught.value.code == "webhook_unreachable"


def test_a_cancelled_job_is_delivered(stack: Stack, receiver: Receiver) -> None:
    stack = stack.with_new_project()
    client = stack.get_client()
    webhook = client.webhooks.create(name="w", url=receiver.build_url(), event_types=["fine_tuning.job.cancelled"])
    job = stack.insert_job()
    receiver.statuses.append(500)
    client.fine_tuning.jobs.cancel(job.id)
    assert deliver_once(stack)
    with stack.open_http() as http:
        [pending] = http.get(f"/v1/webhook_endpoints/{webhook.id}/deliveries").json()["data"]
        assert (pending["state"], pending["tries"], pending["status_code"]) == ("pending", 1, 500)
        assert pending["next_try_at"] > time.time()
        assert not deliver_once(stack)
        stack.run_in_session(_make_due)
        assert deliver_once(stack)
        [delivered] = http.get(f"/v1/webhook_endpoints/{webhook.id}/deliveries").json()["data"]
    assert (delivered["state"], delivered["tries"], delivered["next_try_at"]) == ("delivered", 2, None)
    event = client.webhooks.unwrap(receiver.bodies[1], receiver.headers[1], secret=webhook.signing_secret)
    assert (event.id, event.type, event.data.id) == (delivered["id"], "fine_tuning.job.cancelled", job.id)
    with pytest.raises(openai.InvalidWebhookSignatureError):
        client.webhooks.unwrap(receiver.bodies[1], receiver.headers[1], secret="whsec_" + "A" * 44)


async def _make_due(session: Any) -> None:
    await session.execute(update(Delivery).values(next_try_at=0.0))


def test_rotating_the_secret(stack: Stack, receiver: Receiver) -> None:
    client = stack.get_client()
    webhook = client.webhooks.create(name="w", url=receiver.build_url(), event_types=EVENT_TYPES)
    rotated = client.webhooks.rotate_secret(webhook.id, keep_old_secret_active_for_24_hours=True)
    assert rotated.signing_secret != webhook.signing_secret
    client.webhooks.test(webhook.id, event_type="batch.failed")
    for secret in (webhook.signing_secret, rotated.signing_secret):
        client.webhooks.unwrap(receiver.bodies[0], receiver.headers[0], secret=secret)
    last = client.webhooks.rotate_secret(webhook.id)
    client.webhooks.test(webhook.id, event_type="batch.failed")
    client.webhooks.unwrap(receiver.bodies[1], receiver.headers[1], secret=last.signing_secret)
    with pytest.raises(openai.InvalidWebhookSignatureError):
        client.webhooks.unwrap(receiver.bodies[1], receiver.headers[1], secret=rotated.signing_secret)


def test_disabling_drops_pending_deliveries(stack: Stack, receiver: Receiver) -> None:
    stack = stack.with_new_project()
    client = stack.get_client()
    webhook = client.webhooks.create(name="w", url=receiver.build_url(), event_types=["fine_tuning.job.cancelled"])
    client.fine_tuning.jobs.cancel(stack.insert_job().id)
    disabled = client.webhooks.update(webhook.id, extra_body={"enabled": False})
    assert (disabled.model_extra or {})["enabled"] is False
    client.fine_tuning.jobs.cancel(stack.insert_job().id)
    assert not deliver_once(stack)
    enabled = client.webhooks.update(webhook.id, extra_body={"enabled": True})
    assert ((enabled.model_extra or {})["enabled"], (enabled.model_extra or {})["disabled_at"]) == (True, None)
    client.fine_tuning.jobs.cancel(stack.insert_job().id)
    assert deliver_once(stack)
    assert not deliver_once(stack)
    with stack.open_http() as http:
        states = [
            delivery["state"] for delivery in http.get(f"/v1/webhook_endpoints/{webhook.id}/deliveries").json()["data"]
        ]
    assert states == ["delivered", "given_up"]
    assert client.webhooks.delete(webhook.id).deleted


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
    "more": ({"color": "red"}, "color"),
}


@pytest.mark.parametrize("name", INVALID_CHANGES)
def test_invalid_webhooks(stack: Stack, name: str) -> None:
    changed, param = INVALID_CHANGES[name]
    with stack.open_http() as http:
        body = {"name": "w", "url": URL, "event_types": EVENT_TYPES}
        assert assert_error(http.post("/v1/webhook_endpoints", json={**body, **changed}), 400)["param"] == param
        webhook = http.post("/v1/webhook_endpoints", json=body).json()
        assert assert_error(http.post(f"/v1/webhook_endpoints/{webhook['id']}", json=changed), 400)["param"] == param


def test_the_number_of_webhooks_is_limited(stack: Stack) -> None:
    stack = stack.with_new_project()
    with stack.open_http() as http:
        body = {"name": "w", "url": "https://93.184.216.34/", "event_types": EVENT_TYPES}
        statuses = [http.post("/v1/webhook_endpoints", json=body).status_code for _ in range(51)]
    assert statuses == [200] * 50 + [400]


def test_another_projects_webhook_looks_unknown(stack: Stack) -> None:
    webhook = stack.as_other_tenant().get_client().webhooks.create(name="w", url=URL, event_types=EVENT_TYPES)
    requests: list[tuple[str, str, Any]] = [
        ("GET", "", None),
        ("POST", "", {"name": "mine"}),
        ("DELETE", "", None),
        ("POST", "/rotate_secret", None),
        ("POST", "/test", {"event_type": "batch.failed"}),
        ("GET", "/deliveries", None),
    ]
    with stack.open_http() as http:
        for method, path, body in requests:
            foreign_response, unknown_response = (
                http.request(method, f"/v1/webhook_endpoints/{webhook_id}{path}", json=body)
                for webhook_id in (webhook.id, new_id("webhook"))
            )
            assert assert_error(foreign_response, 404)["param"] == "webhook_endpoint_id"
            assert foreign_response.content == unknown_response.content
    assert stack.as_other_tenant().get_client().webhooks.retrieve(webhook.id).name == "w"

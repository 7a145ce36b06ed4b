"""Routes for webhooks, which receive an event when a job or batch of the project ends."""

from __future__ import annotations

import time

from fastapi import APIRouter
from sqlalchemy import delete, func, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from api.deps import PrincipalDep, ResourcesDep
from api.errors import InvalidRequest, NotFound, error_responses
from api.http.pagination import After, Cursor, Limit, ListOut, Paginator, to_list
from api.http.strict_json import StrictRoute
from api.schemas.webhooks import (
    DeliveryOut,
    EventTypesOut,
    RotateSecretIn,
    WebhookDeleted,
    WebhookIn,
    WebhookOut,
    WebhookTested,
    WebhookTestIn,
    WebhookUpdateIn,
    WebhookWithSecretOut,
    to_delivery_out,
    to_webhook_out,
    to_webhook_with_secret_out,
)
from jobs.resources import Resources
from jobs.webhooks import outbox, signing
from jobs.webhooks.sender import DeliveryFailed, create_webhook_client
from jobs.webhooks.url_policy import ForbiddenUrl
from storage.access.audit import audit
from storage.ids import new_id
from storage.tables import Delivery, Webhook

router = APIRouter(tags=["webhooks"], route_class=StrictRoute, responses=error_responses(404, 413))

MAX_WEBHOOKS = 50
"""Webhooks per project."""
OLD_SECRET_SECONDS = 86_400

WEBHOOKS = Paginator(Webhook, col(Webhook.id), (col(Webhook.created_at), col(Webhook.id)))
DELIVERIES = Paginator(Delivery, col(Delivery.id), (col(Delivery.created_at), col(Delivery.id)))


@router.get("/webhook_event_types")
async def list_webhook_event_types(principal: PrincipalDep) -> EventTypesOut:
    """List the event types that webhooks can receive."""
    return EventTypesOut(data=list(outbox.EVENT_TYPES))


@router.post("/webhook_endpoints")
async def create_webhook(body: WebhookIn, resources: ResourcesDep, principal: PrincipalDep) -> WebhookWithSecretOut:
    """Create a webhook, which sends events to a URL.

    Only this response shows the signing secret.
    """
    await _check_url(resources, body.url)
    now = time.time()
    webhook = Webhook(
        id=new_id("webhook"),
        project_id=principal.project_id,
        created_at=now,
        updated_at=now,
        name=body.name,
        url=body.url,
        secret=signing.generate_secret(),
        events=list(body.event_types),
    )
    out = to_webhook_with_secret_out(webhook)
    async with resources.db.write() as session:
        query = select(func.count()).select_from(Webhook).where(col(Webhook.project_id) == principal.project_id)
        if (await session.execute(query)).scalar_one() >= MAX_WEBHOOKS:
            raise InvalidRequest(
                f"A project can have at most {MAX_WEBHOOKS} webhooks; delete one.", code="too_many_webhooks"
            )
        session.add(webhook)
        await audit(session, principal, "webhook.created", webhook.id)
    return out


@router.get("/webhook_endpoints")
async def list_webhooks(
    resources: ResourcesDep, principal: PrincipalDep, limit: Limit = 20, after: After = None
) -> ListOut[WebhookOut]:
    """List the project's webhooks, newest first."""
    async with resources.db.read() as session:
        page = await WEBHOOKS.fetch_page(
            session, [col(Webhook.project_id) == principal.project_id], Cursor(after, limit)
        )
    return to_list([to_webhook_out(webhook) for webhook in page.rows], page.has_more)


@router.get("/webhook_endpoints/{webhook_id}")
async def retrieve_webhook(webhook_id: str, resources: ResourcesDep, principal: PrincipalDep) -> WebhookOut:
    """Retrieve a webhook, without its signing secret."""
    async with resources.db.read() as session:
        return to_webhook_out(await _get_webhook_or_404(session, principal.project_id, webhook_id))


@router.post("/webhook_endpoints/{webhook_id}")
async def update_webhook(
    webhook_id: str, body: WebhookUpdateIn, resources: ResourcesDep, principal: PrincipalDep
) -> WebhookOut:
    """Change the fields that are sent.

    Enabling a webhook resets its failures. Events that were dropped while it was disabled are not
    sent.
    """
    if body.url is not None:
        await _check_url(resources, body.url)
    async with resources.db.write() as session:
        webhook = await _get_webhook_or_404(session, principal.project_id, webhook_id, lock=True)
        webhook.name = body.name or webhook.name
        webhook.url = body.url or webhook.url
        webhook.events = list(body.event_types or webhook.events)
        if body.enabled:
            webhook.disabled_at, webhook.note, webhook.failures = None, None, 0
        webhook.updated_at = time.time()
        await session.flush()
        if body.enabled is False:
            await outbox.disable(session, webhook.id, None)
            await session.refresh(webhook)
        await audit(session, principal, "webhook.updated", webhook_id)
        return to_webhook_out(webhook)


@router.delete("/webhook_endpoints/{webhook_id}")
async def delete_webhook(webhook_id: str, resources: ResourcesDep, principal: PrincipalDep) -> WebhookDeleted:
    """Delete a webhook and its deliveries, including pending ones."""
    async with resources.db.write() as session:
        await _get_webhook_or_404(session, principal.project_id, webhook_id, lock=True)
        await session.execute(delete(Delivery).where(col(Delivery.webhook_id) == webhook_id))
        await session.execute(delete(Webhook).where(col(Webhook.id) == webhook_id))
        await audit(session, principal, "webhook.deleted", webhook_id)
    return WebhookDeleted(id=webhook_id)


@router.post("/webhook_endpoints/{webhook_id}/rotate_secret")
async def rotate_webhook_secret(
    webhook_id: str, resources: ResourcesDep, principal: PrincipalDep, body: RotateSecretIn | None = None
) -> WebhookWithSecretOut:
    """Create a new signing secret. Only this response shows it.

    If the old secret stays active, deliveries carry both signatures for 24 hours.
    """
    keep_old, now = bool(body and body.keep_old_secret_active_for_24_hours), time.time()
    async with resources.db.write() as session:
        webhook = await _get_webhook_or_404(session, principal.project_id, webhook_id, lock=True)
        webhook.old_secret = webhook.secret if keep_old else None
        webhook.old_secret_until = now + OLD_SECRET_SECONDS if keep_old else None
        webhook.secret, webhook.updated_at = signing.generate_secret(), now
        await audit(session, principal, "webhook.secret_rotated", webhook_id)
        return to_webhook_with_secret_out(webhook)


@router.post("/webhook_endpoints/{webhook_id}/test")
async def test_webhook(
    webhook_id: str, body: WebhookTestIn, resources: ResourcesDep, principal: PrincipalDep
) -> WebhookTested:
    """Send a sample event once and return the status of the receiver's response.

    If the receiver does not respond, the response is 400.
    """
    async with resources.db.read() as session:
        webhook = await _get_webhook_or_404(session, principal.project_id, webhook_id)
    kind, _, _ = body.event_type.rpartition(".")
    sample = outbox.build_delivery(webhook, body.event_type, new_id("batch" if kind == "batch" else "job"))
    try:
        status = await create_webhook_client(resources.settings).send(webhook, sample)
    except DeliveryFailed as error:
        raise InvalidRequest(
            f"The sample event could not be delivered: {error}", param="url", code="webhook_unreachable"
        ) from error
    return WebhookTested(webhook_endpoint_id=webhook_id, event_type=body.event_type, status_code=status)


@router.get("/webhook_endpoints/{webhook_id}/deliveries")
async def list_webhook_deliveries(
    webhook_id: str, resources: ResourcesDep, principal: PrincipalDep, limit: Limit = 20, after: After = None
) -> ListOut[DeliveryOut]:
    """List a webhook's deliveries of the last 30 days, newest first.

    Response bodies are not stored.
    """
    async with resources.db.read() as session:
        await _get_webhook_or_404(session, principal.project_id, webhook_id)
        page = await DELIVERIES.fetch_page(session, [col(Delivery.webhook_id) == webhook_id], Cursor(after, limit))
    return to_list([to_delivery_out(delivery) for delivery in page.rows], page.has_more)


async def _get_webhook_or_404(
    session: AsyncSession, project_id: str, webhook_id: str, *, lock: bool = False
) -> Webhook:
    query = select(Webhook).where(col(Webhook.id) == webhook_id, col(Webhook.project_id) == project_id)
    webhook = (await session.execute(query.with_for_update() if lock else query)).scalar_one_or_none()
    if webhook is None:
        raise NotFound("There is no such webhook for this key.", param="webhook_endpoint_id")
    return webhook


async def _check_url(resources: Resources, url: str) -> None:
    """Check that the URL is allowed. Raises ``InvalidRequest``.

    Each delivery checks it again, because the address of a host name can change.
    """
    try:
        await create_webhook_client(resources.settings).validate_url(url)
    except ForbiddenUrl as error:
        raise InvalidRequest(str(error), param="url", code="invalid_url") from error

"""Bodies of the webhook routes: OpenAI's webhook endpoints, and their deliveries."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field, StringConstraints

from api.schemas.base import ResponseModel, StrictModel
from jobs.webhooks import signing
from jobs.webhooks.outbox import EventType
from jobs.webhooks.url_policy import MAX_URL_CHARACTERS
from storage.tables import Delivery, Webhook

WebhookName = Annotated[str, StringConstraints(min_length=1, max_length=256)]
WebhookUrl = Annotated[str, StringConstraints(min_length=1, max_length=MAX_URL_CHARACTERS)]
EventTypes = Annotated[list[EventType], Field(min_length=1, max_length=32)]


class WebhookIn(StrictModel):
    """The body of ``POST /v1/webhook_endpoints``."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "name": "release",
                    "url": "https://example.com/hooks/luthier",
                    "event_types": ["fine_tuning.job.succeeded", "fine_tuning.job.failed"],
                }
            ]
        }
    )

    name: WebhookName
    url: WebhookUrl
    """A public ``https://`` URL; the operator can allow others."""
    event_types: EventTypes


class WebhookUpdateIn(StrictModel):
    """Changes to a webhook. Absent fields keep their values."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"event_types": ["batch.completed"]}]})

    name: WebhookName | None = None
    url: WebhookUrl | None = None
    event_types: EventTypes | None = None
    enabled: bool | None = None
    """False stops deliveries and discards pending ones."""


class WebhookTestIn(StrictModel):
    model_config = ConfigDict(json_schema_extra={"examples": [{"event_type": "batch.completed"}]})

    event_type: EventType


class RotateSecretIn(StrictModel):
    model_config = ConfigDict(json_schema_extra={"examples": [{"keep_old_secret_active_for_24_hours": True}]})

    keep_old_secret_active_for_24_hours: bool = False
    """Sign deliveries with both secrets for 24 hours, so that receivers can switch without a
    gap."""


class WebhookOut(ResponseModel):
    """A URL that receives a project's events."""

    id: str
    object: Literal["webhook_endpoint"] = "webhook_endpoint"
    created_at: int
    updated_at: int
    name: str
    url: str
    event_types: list[str]
    signing_secret_hint: str
    enabled: bool
    disabled_at: int | None
    note: str | None
    """Reason why the server disabled the webhook."""
    failures: int
    """Deliveries given up since the last successful one."""


class WebhookWithSecretOut(WebhookOut):
    """A webhook with its signing secret."""

    signing_secret: str
    """Shown only in this response."""


class WebhookDeleted(ResponseModel):
    id: str
    object: Literal["webhook_endpoint.deleted"] = "webhook_endpoint.deleted"
    deleted: Literal[True] = True


class WebhookTested(ResponseModel):
    """The receiver's response to a sample event."""

    object: Literal["webhook_endpoint.test"] = "webhook_endpoint.test"
    webhook_endpoint_id: str
    event_type: str
    status_code: int
    success: Literal[True] = True


class EventTypesOut(ResponseModel):
    object: Literal["list"] = "list"
    data: list[str]


class DeliveryOut(ResponseModel):
    """The delivery of one event to one webhook."""

    id: str
    """Value of the ``webhook-id`` header, the same in every attempt."""
    object: Literal["webhook_endpoint.delivery"] = "webhook_endpoint.delivery"
    created_at: int
    event_type: str
    state: Literal["pending", "delivered", "given_up"]
    tries: int
    next_try_at: int | None
    status_code: int | None
    """Status of the last response; null without a response."""
    note: str | None
    """Reason why the last attempt failed."""


def to_webhook_out(webhook: Webhook) -> WebhookOut:
    return WebhookOut(
        id=webhook.id,
        created_at=int(webhook.created_at),
        updated_at=int(webhook.updated_at),
        name=webhook.name,
        url=webhook.url,
        event_types=webhook.events,
        signing_secret_hint=signing.mask_secret(webhook.secret),
        enabled=webhook.disabled_at is None,
        disabled_at=None if webhook.disabled_at is None else int(webhook.disabled_at),
        note=webhook.note,
        failures=webhook.failures,
    )


def to_webhook_with_secret_out(webhook: Webhook) -> WebhookWithSecretOut:
    return WebhookWithSecretOut(**to_webhook_out(webhook).model_dump(), signing_secret=webhook.secret)


def to_delivery_out(delivery: Delivery) -> DeliveryOut:
    pending = delivery.state == "pending"
    return DeliveryOut(
        id=delivery.id,
        created_at=int(delivery.created_at),
        event_type=delivery.type,
        state=delivery.state,
        tries=delivery.tries,
        next_try_at=int(delivery.next_try_at or delivery.created_at) if pending else None,
        status_code=delivery.status_code,
        note=delivery.note,
    )

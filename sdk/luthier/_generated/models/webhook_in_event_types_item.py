from typing import Literal

WebhookInEventTypesItem = Literal[
    "batch.cancelled",
    "batch.completed",
    "batch.expired",
    "batch.failed",
    "fine_tuning.job.cancelled",
    "fine_tuning.job.failed",
    "fine_tuning.job.succeeded",
]

WEBHOOK_IN_EVENT_TYPES_ITEM_VALUES: set[WebhookInEventTypesItem] = {
    "batch.cancelled",
    "batch.completed",
    "batch.expired",
    "batch.failed",
    "fine_tuning.job.cancelled",
    "fine_tuning.job.failed",
    "fine_tuning.job.succeeded",
}


def check_webhook_in_event_types_item(value: str) -> WebhookInEventTypesItem:
    if value in WEBHOOK_IN_EVENT_TYPES_ITEM_VALUES:
        return value
    raise TypeError(f"Unexpected value {value!r}. Expected one of {WEBHOOK_IN_EVENT_TYPES_ITEM_VALUES!r}")

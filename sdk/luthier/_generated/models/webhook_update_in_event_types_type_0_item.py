from typing import Literal

WebhookUpdateInEventTypesType0Item = Literal[
    "batch.cancelled",
    "batch.completed",
    "batch.expired",
    "batch.failed",
    "fine_tuning.job.cancelled",
    "fine_tuning.job.failed",
    "fine_tuning.job.succeeded",
]

WEBHOOK_UPDATE_IN_EVENT_TYPES_TYPE_0_ITEM_VALUES: set[WebhookUpdateInEventTypesType0Item] = {
    "batch.cancelled",
    "batch.completed",
    "batch.expired",
    "batch.failed",
    "fine_tuning.job.cancelled",
    "fine_tuning.job.failed",
    "fine_tuning.job.succeeded",
}


def check_webhook_update_in_event_types_type_0_item(value: str) -> WebhookUpdateInEventTypesType0Item:
    if value in WEBHOOK_UPDATE_IN_EVENT_TYPES_TYPE_0_ITEM_VALUES:
        return value
    raise TypeError(f"Unexpected value {value!r}. Expected one of {WEBHOOK_UPDATE_IN_EVENT_TYPES_TYPE_0_ITEM_VALUES!r}")

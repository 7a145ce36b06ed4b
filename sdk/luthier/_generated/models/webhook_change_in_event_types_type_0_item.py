from typing import Literal

WebhookChangeInEventTypesType0Item = Literal[
    "batch.cancelled",
    "batch.completed",
    "batch.expired",
    "batch.failed",
    "fine_tuning.job.cancelled",
    "fine_tuning.job.failed",
    "fine_tuning.job.succeeded",
]

WEBHOOK_CHANGE_IN_EVENT_TYPES_TYPE_0_ITEM_VALUES: set[WebhookChangeInEventTypesType0Item] = {
    "batch.cancelled",
    "batch.completed",
    "batch.expired",
    "batch.failed",
    "fine_tuning.job.cancelled",
    "fine_tuning.job.failed",
    "fine_tuning.job.succeeded",
}


def check_webhook_change_in_event_types_type_0_item(value: str) -> WebhookChangeInEventTypesType0Item:
    if value in WEBHOOK_CHANGE_IN_EVENT_TYPES_TYPE_0_ITEM_VALUES:
        return value
    raise TypeError(f"Unexpected value {value!r}. Expected one of {WEBHOOK_CHANGE_IN_EVENT_TYPES_TYPE_0_ITEM_VALUES!r}")

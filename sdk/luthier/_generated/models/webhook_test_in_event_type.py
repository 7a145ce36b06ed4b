from typing import Literal

WebhookTestInEventType = Literal[
    "batch.cancelled",
    "batch.completed",
    "batch.expired",
    "batch.failed",
    "fine_tuning.job.cancelled",
    "fine_tuning.job.failed",
    "fine_tuning.job.succeeded",
]

WEBHOOK_TEST_IN_EVENT_TYPE_VALUES: set[WebhookTestInEventType] = {
    "batch.cancelled",
    "batch.completed",
    "batch.expired",
    "batch.failed",
    "fine_tuning.job.cancelled",
    "fine_tuning.job.failed",
    "fine_tuning.job.succeeded",
}


def check_webhook_test_in_event_type(value: str) -> WebhookTestInEventType:
    if value in WEBHOOK_TEST_IN_EVENT_TYPE_VALUES:
        return value
    raise TypeError(f"Unexpected value {value!r}. Expected one of {WEBHOOK_TEST_IN_EVENT_TYPE_VALUES!r}")

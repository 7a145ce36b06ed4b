from typing import Literal

RetrieveUsageKindsItem = Literal["chat", "completion", "embedding", "prediction", "training"]

RETRIEVE_USAGE_KINDS_ITEM_VALUES: set[RetrieveUsageKindsItem] = {
    "chat",
    "completion",
    "embedding",
    "prediction",
    "training",
}


def check_retrieve_usage_kinds_item(value: str) -> RetrieveUsageKindsItem:
    if value in RETRIEVE_USAGE_KINDS_ITEM_VALUES:
        return value
    raise TypeError(f"Unexpected value {value!r}. Expected one of {RETRIEVE_USAGE_KINDS_ITEM_VALUES!r}")

from typing import Literal

RetrieveUsageGroupByItem = Literal["api_key_id", "kind", "model", "project_id"]

RETRIEVE_USAGE_GROUP_BY_ITEM_VALUES: set[RetrieveUsageGroupByItem] = {
    "api_key_id",
    "kind",
    "model",
    "project_id",
}


def check_retrieve_usage_group_by_item(value: str) -> RetrieveUsageGroupByItem:
    if value in RETRIEVE_USAGE_GROUP_BY_ITEM_VALUES:
        return value
    raise TypeError(f"Unexpected value {value!r}. Expected one of {RETRIEVE_USAGE_GROUP_BY_ITEM_VALUES!r}")

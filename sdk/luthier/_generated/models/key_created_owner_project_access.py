from typing import Literal

KeyCreatedOwnerProjectAccess = Literal["active", "inactive"]

KEY_CREATED_OWNER_PROJECT_ACCESS_VALUES: set[KeyCreatedOwnerProjectAccess] = {
    "active",
    "inactive",
}


def check_key_created_owner_project_access(value: str) -> KeyCreatedOwnerProjectAccess:
    if value in KEY_CREATED_OWNER_PROJECT_ACCESS_VALUES:
        return value
    raise TypeError(f"Unexpected value {value!r}. Expected one of {KEY_CREATED_OWNER_PROJECT_ACCESS_VALUES!r}")

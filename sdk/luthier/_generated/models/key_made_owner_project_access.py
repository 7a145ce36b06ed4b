from typing import Literal

KeyMadeOwnerProjectAccess = Literal["active", "inactive"]

KEY_MADE_OWNER_PROJECT_ACCESS_VALUES: set[KeyMadeOwnerProjectAccess] = {
    "active",
    "inactive",
}


def check_key_made_owner_project_access(value: str) -> KeyMadeOwnerProjectAccess:
    if value in KEY_MADE_OWNER_PROJECT_ACCESS_VALUES:
        return value
    raise TypeError(f"Unexpected value {value!r}. Expected one of {KEY_MADE_OWNER_PROJECT_ACCESS_VALUES!r}")

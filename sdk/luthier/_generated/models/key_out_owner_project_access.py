from typing import Literal

KeyOutOwnerProjectAccess = Literal["active", "inactive"]

KEY_OUT_OWNER_PROJECT_ACCESS_VALUES: set[KeyOutOwnerProjectAccess] = {
    "active",
    "inactive",
}


def check_key_out_owner_project_access(value: str) -> KeyOutOwnerProjectAccess:
    if value in KEY_OUT_OWNER_PROJECT_ACCESS_VALUES:
        return value
    raise TypeError(f"Unexpected value {value!r}. Expected one of {KEY_OUT_OWNER_PROJECT_ACCESS_VALUES!r}")

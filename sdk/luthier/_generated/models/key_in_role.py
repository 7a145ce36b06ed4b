from typing import Literal

KeyInRole = Literal["admin", "inference", "member", "read"]

KEY_IN_ROLE_VALUES: set[KeyInRole] = {
    "admin",
    "inference",
    "member",
    "read",
}


def check_key_in_role(value: str) -> KeyInRole:
    if value in KEY_IN_ROLE_VALUES:
        return value
    raise TypeError(f"Unexpected value {value!r}. Expected one of {KEY_IN_ROLE_VALUES!r}")

from typing import Literal

ErrorBodyType = Literal["invalid_request_error", "permission_error", "requests", "server_error", "tokens"]

ERROR_BODY_TYPE_VALUES: set[ErrorBodyType] = {
    "invalid_request_error",
    "permission_error",
    "requests",
    "server_error",
    "tokens",
}


def check_error_body_type(value: str) -> ErrorBodyType:
    if value in ERROR_BODY_TYPE_VALUES:
        return value
    raise TypeError(f"Unexpected value {value!r}. Expected one of {ERROR_BODY_TYPE_VALUES!r}")

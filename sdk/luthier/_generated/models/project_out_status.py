from typing import Literal

ProjectOutStatus = Literal["active", "archived"]

PROJECT_OUT_STATUS_VALUES: set[ProjectOutStatus] = {
    "active",
    "archived",
}


def check_project_out_status(value: str) -> ProjectOutStatus:
    if value in PROJECT_OUT_STATUS_VALUES:
        return value
    raise TypeError(f"Unexpected value {value!r}. Expected one of {PROJECT_OUT_STATUS_VALUES!r}")

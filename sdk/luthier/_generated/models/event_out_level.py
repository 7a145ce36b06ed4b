from typing import Literal

EventOutLevel = Literal["error", "info", "warn"]

EVENT_OUT_LEVEL_VALUES: set[EventOutLevel] = {
    "error",
    "info",
    "warn",
}


def check_event_out_level(value: str) -> EventOutLevel:
    if value in EVENT_OUT_LEVEL_VALUES:
        return value
    raise TypeError(f"Unexpected value {value!r}. Expected one of {EVENT_OUT_LEVEL_VALUES!r}")

from typing import Literal

ReadyChecksAdditionalProperty = Literal["down", "ok"]

READY_CHECKS_ADDITIONAL_PROPERTY_VALUES: set[ReadyChecksAdditionalProperty] = {
    "down",
    "ok",
}


def check_ready_checks_additional_property(value: str) -> ReadyChecksAdditionalProperty:
    if value in READY_CHECKS_ADDITIONAL_PROPERTY_VALUES:
        return value
    raise TypeError(f"Unexpected value {value!r}. Expected one of {READY_CHECKS_ADDITIONAL_PROPERTY_VALUES!r}")

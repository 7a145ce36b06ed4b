from typing import Literal

ReadinessChecksAdditionalProperty = Literal["down", "ok"]

READINESS_CHECKS_ADDITIONAL_PROPERTY_VALUES: set[ReadinessChecksAdditionalProperty] = {
    "down",
    "ok",
}


def check_readiness_checks_additional_property(value: str) -> ReadinessChecksAdditionalProperty:
    if value in READINESS_CHECKS_ADDITIONAL_PROPERTY_VALUES:
        return value
    raise TypeError(f"Unexpected value {value!r}. Expected one of {READINESS_CHECKS_ADDITIONAL_PROPERTY_VALUES!r}")

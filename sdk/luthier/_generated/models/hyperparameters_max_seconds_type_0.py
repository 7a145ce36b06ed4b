from typing import Literal

HyperparametersMaxSecondsType0 = Literal["auto"]

HYPERPARAMETERS_MAX_SECONDS_TYPE_0_VALUES: set[HyperparametersMaxSecondsType0] = {
    "auto",
}


def check_hyperparameters_max_seconds_type_0(value: str) -> HyperparametersMaxSecondsType0:
    if value in HYPERPARAMETERS_MAX_SECONDS_TYPE_0_VALUES:
        return value
    raise TypeError(f"Unexpected value {value!r}. Expected one of {HYPERPARAMETERS_MAX_SECONDS_TYPE_0_VALUES!r}")

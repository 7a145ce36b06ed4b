from typing import Literal

HyperparametersMaxStepsType0 = Literal["auto"]

HYPERPARAMETERS_MAX_STEPS_TYPE_0_VALUES: set[HyperparametersMaxStepsType0] = {
    "auto",
}


def check_hyperparameters_max_steps_type_0(value: str) -> HyperparametersMaxStepsType0:
    if value in HYPERPARAMETERS_MAX_STEPS_TYPE_0_VALUES:
        return value
    raise TypeError(f"Unexpected value {value!r}. Expected one of {HYPERPARAMETERS_MAX_STEPS_TYPE_0_VALUES!r}")

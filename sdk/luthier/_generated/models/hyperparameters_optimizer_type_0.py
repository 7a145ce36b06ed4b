from typing import Literal

HyperparametersOptimizerType0 = Literal["auto"]

HYPERPARAMETERS_OPTIMIZER_TYPE_0_VALUES: set[HyperparametersOptimizerType0] = {
    "auto",
}


def check_hyperparameters_optimizer_type_0(value: str) -> HyperparametersOptimizerType0:
    if value in HYPERPARAMETERS_OPTIMIZER_TYPE_0_VALUES:
        return value
    raise TypeError(f"Unexpected value {value!r}. Expected one of {HYPERPARAMETERS_OPTIMIZER_TYPE_0_VALUES!r}")

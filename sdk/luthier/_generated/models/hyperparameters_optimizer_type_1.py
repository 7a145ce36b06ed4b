from typing import Literal

HyperparametersOptimizerType1 = Literal["adafactor", "adamw", "adamw8bit", "sgd"]

HYPERPARAMETERS_OPTIMIZER_TYPE_1_VALUES: set[HyperparametersOptimizerType1] = {
    "adafactor",
    "adamw",
    "adamw8bit",
    "sgd",
}


def check_hyperparameters_optimizer_type_1(value: str) -> HyperparametersOptimizerType1:
    if value in HYPERPARAMETERS_OPTIMIZER_TYPE_1_VALUES:
        return value
    raise TypeError(f"Unexpected value {value!r}. Expected one of {HYPERPARAMETERS_OPTIMIZER_TYPE_1_VALUES!r}")

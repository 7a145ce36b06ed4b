from typing import Literal

HyperparametersLearningRateType0 = Literal["auto"]

HYPERPARAMETERS_LEARNING_RATE_TYPE_0_VALUES: set[HyperparametersLearningRateType0] = {
    "auto",
}


def check_hyperparameters_learning_rate_type_0(value: str) -> HyperparametersLearningRateType0:
    if value in HYPERPARAMETERS_LEARNING_RATE_TYPE_0_VALUES:
        return value
    raise TypeError(f"Unexpected value {value!r}. Expected one of {HYPERPARAMETERS_LEARNING_RATE_TYPE_0_VALUES!r}")

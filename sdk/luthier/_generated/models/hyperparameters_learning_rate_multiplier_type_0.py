from typing import Literal

HyperparametersLearningRateMultiplierType0 = Literal["auto"]

HYPERPARAMETERS_LEARNING_RATE_MULTIPLIER_TYPE_0_VALUES: set[HyperparametersLearningRateMultiplierType0] = {
    "auto",
}


def check_hyperparameters_learning_rate_multiplier_type_0(value: str) -> HyperparametersLearningRateMultiplierType0:
    if value in HYPERPARAMETERS_LEARNING_RATE_MULTIPLIER_TYPE_0_VALUES:
        return value
    raise TypeError(
        f"Unexpected value {value!r}. Expected one of {HYPERPARAMETERS_LEARNING_RATE_MULTIPLIER_TYPE_0_VALUES!r}"
    )

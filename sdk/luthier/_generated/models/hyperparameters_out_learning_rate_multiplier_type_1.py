from typing import Literal

HyperparametersOutLearningRateMultiplierType1 = Literal["auto"]

HYPERPARAMETERS_OUT_LEARNING_RATE_MULTIPLIER_TYPE_1_VALUES: set[HyperparametersOutLearningRateMultiplierType1] = {
    "auto",
}


def check_hyperparameters_out_learning_rate_multiplier_type_1(
    value: str,
) -> HyperparametersOutLearningRateMultiplierType1:
    if value in HYPERPARAMETERS_OUT_LEARNING_RATE_MULTIPLIER_TYPE_1_VALUES:
        return value
    raise TypeError(
        f"Unexpected value {value!r}. Expected one of {HYPERPARAMETERS_OUT_LEARNING_RATE_MULTIPLIER_TYPE_1_VALUES!r}"
    )

from typing import Literal

HyperparametersClassWeightsType1 = Literal["balanced", "none"]

HYPERPARAMETERS_CLASS_WEIGHTS_TYPE_1_VALUES: set[HyperparametersClassWeightsType1] = {
    "balanced",
    "none",
}


def check_hyperparameters_class_weights_type_1(value: str) -> HyperparametersClassWeightsType1:
    if value in HYPERPARAMETERS_CLASS_WEIGHTS_TYPE_1_VALUES:
        return value
    raise TypeError(f"Unexpected value {value!r}. Expected one of {HYPERPARAMETERS_CLASS_WEIGHTS_TYPE_1_VALUES!r}")

from typing import Literal

HyperparametersClassWeightsType0 = Literal["auto"]

HYPERPARAMETERS_CLASS_WEIGHTS_TYPE_0_VALUES: set[HyperparametersClassWeightsType0] = {
    "auto",
}


def check_hyperparameters_class_weights_type_0(value: str) -> HyperparametersClassWeightsType0:
    if value in HYPERPARAMETERS_CLASS_WEIGHTS_TYPE_0_VALUES:
        return value
    raise TypeError(f"Unexpected value {value!r}. Expected one of {HYPERPARAMETERS_CLASS_WEIGHTS_TYPE_0_VALUES!r}")

from typing import Literal

HyperparametersWeightDecayType0 = Literal["auto"]

HYPERPARAMETERS_WEIGHT_DECAY_TYPE_0_VALUES: set[HyperparametersWeightDecayType0] = {
    "auto",
}


def check_hyperparameters_weight_decay_type_0(value: str) -> HyperparametersWeightDecayType0:
    if value in HYPERPARAMETERS_WEIGHT_DECAY_TYPE_0_VALUES:
        return value
    raise TypeError(f"Unexpected value {value!r}. Expected one of {HYPERPARAMETERS_WEIGHT_DECAY_TYPE_0_VALUES!r}")

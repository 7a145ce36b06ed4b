from typing import Literal

DpoHyperparametersWeightDecayType0 = Literal["auto"]

DPO_HYPERPARAMETERS_WEIGHT_DECAY_TYPE_0_VALUES: set[DpoHyperparametersWeightDecayType0] = {
    "auto",
}


def check_dpo_hyperparameters_weight_decay_type_0(value: str) -> DpoHyperparametersWeightDecayType0:
    if value in DPO_HYPERPARAMETERS_WEIGHT_DECAY_TYPE_0_VALUES:
        return value
    raise TypeError(f"Unexpected value {value!r}. Expected one of {DPO_HYPERPARAMETERS_WEIGHT_DECAY_TYPE_0_VALUES!r}")

from typing import Literal

DpoHyperparametersClassWeightsType0 = Literal["auto"]

DPO_HYPERPARAMETERS_CLASS_WEIGHTS_TYPE_0_VALUES: set[DpoHyperparametersClassWeightsType0] = {
    "auto",
}


def check_dpo_hyperparameters_class_weights_type_0(value: str) -> DpoHyperparametersClassWeightsType0:
    if value in DPO_HYPERPARAMETERS_CLASS_WEIGHTS_TYPE_0_VALUES:
        return value
    raise TypeError(f"Unexpected value {value!r}. Expected one of {DPO_HYPERPARAMETERS_CLASS_WEIGHTS_TYPE_0_VALUES!r}")

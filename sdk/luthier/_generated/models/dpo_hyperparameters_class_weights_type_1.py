from typing import Literal

DpoHyperparametersClassWeightsType1 = Literal["balanced", "none"]

DPO_HYPERPARAMETERS_CLASS_WEIGHTS_TYPE_1_VALUES: set[DpoHyperparametersClassWeightsType1] = {
    "balanced",
    "none",
}


def check_dpo_hyperparameters_class_weights_type_1(value: str) -> DpoHyperparametersClassWeightsType1:
    if value in DPO_HYPERPARAMETERS_CLASS_WEIGHTS_TYPE_1_VALUES:
        return value
    raise TypeError(f"Unexpected value {value!r}. Expected one of {DPO_HYPERPARAMETERS_CLASS_WEIGHTS_TYPE_1_VALUES!r}")

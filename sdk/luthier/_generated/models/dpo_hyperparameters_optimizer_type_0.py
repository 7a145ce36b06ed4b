from typing import Literal

DpoHyperparametersOptimizerType0 = Literal["auto"]

DPO_HYPERPARAMETERS_OPTIMIZER_TYPE_0_VALUES: set[DpoHyperparametersOptimizerType0] = {
    "auto",
}


def check_dpo_hyperparameters_optimizer_type_0(value: str) -> DpoHyperparametersOptimizerType0:
    if value in DPO_HYPERPARAMETERS_OPTIMIZER_TYPE_0_VALUES:
        return value
    raise TypeError(f"Unexpected value {value!r}. Expected one of {DPO_HYPERPARAMETERS_OPTIMIZER_TYPE_0_VALUES!r}")

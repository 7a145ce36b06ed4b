from typing import Literal

DpoHyperparametersMaxStepsType0 = Literal["auto"]

DPO_HYPERPARAMETERS_MAX_STEPS_TYPE_0_VALUES: set[DpoHyperparametersMaxStepsType0] = {
    "auto",
}


def check_dpo_hyperparameters_max_steps_type_0(value: str) -> DpoHyperparametersMaxStepsType0:
    if value in DPO_HYPERPARAMETERS_MAX_STEPS_TYPE_0_VALUES:
        return value
    raise TypeError(f"Unexpected value {value!r}. Expected one of {DPO_HYPERPARAMETERS_MAX_STEPS_TYPE_0_VALUES!r}")

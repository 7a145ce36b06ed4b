from typing import Literal

DpoHyperparametersL2ToBaseType0 = Literal["auto"]

DPO_HYPERPARAMETERS_L2_TO_BASE_TYPE_0_VALUES: set[DpoHyperparametersL2ToBaseType0] = {
    "auto",
}


def check_dpo_hyperparameters_l2_to_base_type_0(value: str) -> DpoHyperparametersL2ToBaseType0:
    if value in DPO_HYPERPARAMETERS_L2_TO_BASE_TYPE_0_VALUES:
        return value
    raise TypeError(f"Unexpected value {value!r}. Expected one of {DPO_HYPERPARAMETERS_L2_TO_BASE_TYPE_0_VALUES!r}")

from typing import Literal

HyperparametersL2ToBaseType0 = Literal["auto"]

HYPERPARAMETERS_L2_TO_BASE_TYPE_0_VALUES: set[HyperparametersL2ToBaseType0] = {
    "auto",
}


def check_hyperparameters_l2_to_base_type_0(value: str) -> HyperparametersL2ToBaseType0:
    if value in HYPERPARAMETERS_L2_TO_BASE_TYPE_0_VALUES:
        return value
    raise TypeError(f"Unexpected value {value!r}. Expected one of {HYPERPARAMETERS_L2_TO_BASE_TYPE_0_VALUES!r}")

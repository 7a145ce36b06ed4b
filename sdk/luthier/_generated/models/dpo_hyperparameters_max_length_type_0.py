from typing import Literal

DpoHyperparametersMaxLengthType0 = Literal["auto"]

DPO_HYPERPARAMETERS_MAX_LENGTH_TYPE_0_VALUES: set[DpoHyperparametersMaxLengthType0] = {
    "auto",
}


def check_dpo_hyperparameters_max_length_type_0(value: str) -> DpoHyperparametersMaxLengthType0:
    if value in DPO_HYPERPARAMETERS_MAX_LENGTH_TYPE_0_VALUES:
        return value
    raise TypeError(f"Unexpected value {value!r}. Expected one of {DPO_HYPERPARAMETERS_MAX_LENGTH_TYPE_0_VALUES!r}")

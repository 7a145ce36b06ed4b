from typing import Literal

DpoHyperparametersDtypeType0 = Literal["auto"]

DPO_HYPERPARAMETERS_DTYPE_TYPE_0_VALUES: set[DpoHyperparametersDtypeType0] = {
    "auto",
}


def check_dpo_hyperparameters_dtype_type_0(value: str) -> DpoHyperparametersDtypeType0:
    if value in DPO_HYPERPARAMETERS_DTYPE_TYPE_0_VALUES:
        return value
    raise TypeError(f"Unexpected value {value!r}. Expected one of {DPO_HYPERPARAMETERS_DTYPE_TYPE_0_VALUES!r}")

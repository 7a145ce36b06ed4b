from typing import Literal

DpoHyperparametersDtypeType1 = Literal["bfloat16", "float32"]

DPO_HYPERPARAMETERS_DTYPE_TYPE_1_VALUES: set[DpoHyperparametersDtypeType1] = {
    "bfloat16",
    "float32",
}


def check_dpo_hyperparameters_dtype_type_1(value: str) -> DpoHyperparametersDtypeType1:
    if value in DPO_HYPERPARAMETERS_DTYPE_TYPE_1_VALUES:
        return value
    raise TypeError(f"Unexpected value {value!r}. Expected one of {DPO_HYPERPARAMETERS_DTYPE_TYPE_1_VALUES!r}")

from typing import Literal

HyperparametersDtypeType1 = Literal["bfloat16", "float32"]

HYPERPARAMETERS_DTYPE_TYPE_1_VALUES: set[HyperparametersDtypeType1] = {
    "bfloat16",
    "float32",
}


def check_hyperparameters_dtype_type_1(value: str) -> HyperparametersDtypeType1:
    if value in HYPERPARAMETERS_DTYPE_TYPE_1_VALUES:
        return value
    raise TypeError(f"Unexpected value {value!r}. Expected one of {HYPERPARAMETERS_DTYPE_TYPE_1_VALUES!r}")

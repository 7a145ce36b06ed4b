from typing import Literal

HyperparametersDtypeType0 = Literal["auto"]

HYPERPARAMETERS_DTYPE_TYPE_0_VALUES: set[HyperparametersDtypeType0] = {
    "auto",
}


def check_hyperparameters_dtype_type_0(value: str) -> HyperparametersDtypeType0:
    if value in HYPERPARAMETERS_DTYPE_TYPE_0_VALUES:
        return value
    raise TypeError(f"Unexpected value {value!r}. Expected one of {HYPERPARAMETERS_DTYPE_TYPE_0_VALUES!r}")

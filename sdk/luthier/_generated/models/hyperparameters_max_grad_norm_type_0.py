from typing import Literal

HyperparametersMaxGradNormType0 = Literal["auto"]

HYPERPARAMETERS_MAX_GRAD_NORM_TYPE_0_VALUES: set[HyperparametersMaxGradNormType0] = {
    "auto",
}


def check_hyperparameters_max_grad_norm_type_0(value: str) -> HyperparametersMaxGradNormType0:
    if value in HYPERPARAMETERS_MAX_GRAD_NORM_TYPE_0_VALUES:
        return value
    raise TypeError(f"Unexpected value {value!r}. Expected one of {HYPERPARAMETERS_MAX_GRAD_NORM_TYPE_0_VALUES!r}")

from typing import Literal

DpoHyperparametersMaxGradNormType0 = Literal["auto"]

DPO_HYPERPARAMETERS_MAX_GRAD_NORM_TYPE_0_VALUES: set[DpoHyperparametersMaxGradNormType0] = {
    "auto",
}


def check_dpo_hyperparameters_max_grad_norm_type_0(value: str) -> DpoHyperparametersMaxGradNormType0:
    if value in DPO_HYPERPARAMETERS_MAX_GRAD_NORM_TYPE_0_VALUES:
        return value
    raise TypeError(f"Unexpected value {value!r}. Expected one of {DPO_HYPERPARAMETERS_MAX_GRAD_NORM_TYPE_0_VALUES!r}")

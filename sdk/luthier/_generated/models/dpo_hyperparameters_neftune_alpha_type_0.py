from typing import Literal

DpoHyperparametersNeftuneAlphaType0 = Literal["auto"]

DPO_HYPERPARAMETERS_NEFTUNE_ALPHA_TYPE_0_VALUES: set[DpoHyperparametersNeftuneAlphaType0] = {
    "auto",
}


def check_dpo_hyperparameters_neftune_alpha_type_0(value: str) -> DpoHyperparametersNeftuneAlphaType0:
    if value in DPO_HYPERPARAMETERS_NEFTUNE_ALPHA_TYPE_0_VALUES:
        return value
    raise TypeError(f"Unexpected value {value!r}. Expected one of {DPO_HYPERPARAMETERS_NEFTUNE_ALPHA_TYPE_0_VALUES!r}")

from typing import Literal

HyperparametersNeftuneAlphaType0 = Literal["auto"]

HYPERPARAMETERS_NEFTUNE_ALPHA_TYPE_0_VALUES: set[HyperparametersNeftuneAlphaType0] = {
    "auto",
}


def check_hyperparameters_neftune_alpha_type_0(value: str) -> HyperparametersNeftuneAlphaType0:
    if value in HYPERPARAMETERS_NEFTUNE_ALPHA_TYPE_0_VALUES:
        return value
    raise TypeError(f"Unexpected value {value!r}. Expected one of {HYPERPARAMETERS_NEFTUNE_ALPHA_TYPE_0_VALUES!r}")

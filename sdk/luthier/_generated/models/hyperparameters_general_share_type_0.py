from typing import Literal

HyperparametersGeneralShareType0 = Literal["auto"]

HYPERPARAMETERS_GENERAL_SHARE_TYPE_0_VALUES: set[HyperparametersGeneralShareType0] = {
    "auto",
}


def check_hyperparameters_general_share_type_0(value: str) -> HyperparametersGeneralShareType0:
    if value in HYPERPARAMETERS_GENERAL_SHARE_TYPE_0_VALUES:
        return value
    raise TypeError(f"Unexpected value {value!r}. Expected one of {HYPERPARAMETERS_GENERAL_SHARE_TYPE_0_VALUES!r}")

from typing import Literal

HyperparametersValidationShareType0 = Literal["auto"]

HYPERPARAMETERS_VALIDATION_SHARE_TYPE_0_VALUES: set[HyperparametersValidationShareType0] = {
    "auto",
}


def check_hyperparameters_validation_share_type_0(value: str) -> HyperparametersValidationShareType0:
    if value in HYPERPARAMETERS_VALIDATION_SHARE_TYPE_0_VALUES:
        return value
    raise TypeError(f"Unexpected value {value!r}. Expected one of {HYPERPARAMETERS_VALIDATION_SHARE_TYPE_0_VALUES!r}")

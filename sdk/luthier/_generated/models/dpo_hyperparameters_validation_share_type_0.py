from typing import Literal

DpoHyperparametersValidationShareType0 = Literal["auto"]

DPO_HYPERPARAMETERS_VALIDATION_SHARE_TYPE_0_VALUES: set[DpoHyperparametersValidationShareType0] = {
    "auto",
}


def check_dpo_hyperparameters_validation_share_type_0(value: str) -> DpoHyperparametersValidationShareType0:
    if value in DPO_HYPERPARAMETERS_VALIDATION_SHARE_TYPE_0_VALUES:
        return value
    raise TypeError(
        f"Unexpected value {value!r}. Expected one of {DPO_HYPERPARAMETERS_VALIDATION_SHARE_TYPE_0_VALUES!r}"
    )

from typing import Literal

DpoHyperparametersGeneralShareType0 = Literal["auto"]

DPO_HYPERPARAMETERS_GENERAL_SHARE_TYPE_0_VALUES: set[DpoHyperparametersGeneralShareType0] = {
    "auto",
}


def check_dpo_hyperparameters_general_share_type_0(value: str) -> DpoHyperparametersGeneralShareType0:
    if value in DPO_HYPERPARAMETERS_GENERAL_SHARE_TYPE_0_VALUES:
        return value
    raise TypeError(f"Unexpected value {value!r}. Expected one of {DPO_HYPERPARAMETERS_GENERAL_SHARE_TYPE_0_VALUES!r}")

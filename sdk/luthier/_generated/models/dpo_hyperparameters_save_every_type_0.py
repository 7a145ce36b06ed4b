from typing import Literal

DpoHyperparametersSaveEveryType0 = Literal["auto"]

DPO_HYPERPARAMETERS_SAVE_EVERY_TYPE_0_VALUES: set[DpoHyperparametersSaveEveryType0] = {
    "auto",
}


def check_dpo_hyperparameters_save_every_type_0(value: str) -> DpoHyperparametersSaveEveryType0:
    if value in DPO_HYPERPARAMETERS_SAVE_EVERY_TYPE_0_VALUES:
        return value
    raise TypeError(f"Unexpected value {value!r}. Expected one of {DPO_HYPERPARAMETERS_SAVE_EVERY_TYPE_0_VALUES!r}")

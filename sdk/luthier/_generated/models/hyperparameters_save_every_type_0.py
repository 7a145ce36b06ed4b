from typing import Literal

HyperparametersSaveEveryType0 = Literal["auto"]

HYPERPARAMETERS_SAVE_EVERY_TYPE_0_VALUES: set[HyperparametersSaveEveryType0] = {
    "auto",
}


def check_hyperparameters_save_every_type_0(value: str) -> HyperparametersSaveEveryType0:
    if value in HYPERPARAMETERS_SAVE_EVERY_TYPE_0_VALUES:
        return value
    raise TypeError(f"Unexpected value {value!r}. Expected one of {HYPERPARAMETERS_SAVE_EVERY_TYPE_0_VALUES!r}")

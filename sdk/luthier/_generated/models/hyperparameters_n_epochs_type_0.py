from typing import Literal

HyperparametersNEpochsType0 = Literal["auto"]

HYPERPARAMETERS_N_EPOCHS_TYPE_0_VALUES: set[HyperparametersNEpochsType0] = {
    "auto",
}


def check_hyperparameters_n_epochs_type_0(value: str) -> HyperparametersNEpochsType0:
    if value in HYPERPARAMETERS_N_EPOCHS_TYPE_0_VALUES:
        return value
    raise TypeError(f"Unexpected value {value!r}. Expected one of {HYPERPARAMETERS_N_EPOCHS_TYPE_0_VALUES!r}")

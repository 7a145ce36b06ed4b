from typing import Literal

HyperparametersOutNEpochsType1 = Literal["auto"]

HYPERPARAMETERS_OUT_N_EPOCHS_TYPE_1_VALUES: set[HyperparametersOutNEpochsType1] = {
    "auto",
}


def check_hyperparameters_out_n_epochs_type_1(value: str) -> HyperparametersOutNEpochsType1:
    if value in HYPERPARAMETERS_OUT_N_EPOCHS_TYPE_1_VALUES:
        return value
    raise TypeError(f"Unexpected value {value!r}. Expected one of {HYPERPARAMETERS_OUT_N_EPOCHS_TYPE_1_VALUES!r}")

from typing import Literal

HyperparametersTrainOnInputsType0 = Literal["auto"]

HYPERPARAMETERS_TRAIN_ON_INPUTS_TYPE_0_VALUES: set[HyperparametersTrainOnInputsType0] = {
    "auto",
}


def check_hyperparameters_train_on_inputs_type_0(value: str) -> HyperparametersTrainOnInputsType0:
    if value in HYPERPARAMETERS_TRAIN_ON_INPUTS_TYPE_0_VALUES:
        return value
    raise TypeError(f"Unexpected value {value!r}. Expected one of {HYPERPARAMETERS_TRAIN_ON_INPUTS_TYPE_0_VALUES!r}")

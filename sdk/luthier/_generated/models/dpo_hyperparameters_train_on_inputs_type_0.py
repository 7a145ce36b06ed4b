from typing import Literal

DpoHyperparametersTrainOnInputsType0 = Literal["auto"]

DPO_HYPERPARAMETERS_TRAIN_ON_INPUTS_TYPE_0_VALUES: set[DpoHyperparametersTrainOnInputsType0] = {
    "auto",
}


def check_dpo_hyperparameters_train_on_inputs_type_0(value: str) -> DpoHyperparametersTrainOnInputsType0:
    if value in DPO_HYPERPARAMETERS_TRAIN_ON_INPUTS_TYPE_0_VALUES:
        return value
    raise TypeError(
        f"Unexpected value {value!r}. Expected one of {DPO_HYPERPARAMETERS_TRAIN_ON_INPUTS_TYPE_0_VALUES!r}"
    )

from typing import Literal

DpoHyperparametersTrainOnReasoningType0 = Literal["auto"]

DPO_HYPERPARAMETERS_TRAIN_ON_REASONING_TYPE_0_VALUES: set[DpoHyperparametersTrainOnReasoningType0] = {
    "auto",
}


def check_dpo_hyperparameters_train_on_reasoning_type_0(value: str) -> DpoHyperparametersTrainOnReasoningType0:
    if value in DPO_HYPERPARAMETERS_TRAIN_ON_REASONING_TYPE_0_VALUES:
        return value
    raise TypeError(
        f"Unexpected value {value!r}. Expected one of {DPO_HYPERPARAMETERS_TRAIN_ON_REASONING_TYPE_0_VALUES!r}"
    )

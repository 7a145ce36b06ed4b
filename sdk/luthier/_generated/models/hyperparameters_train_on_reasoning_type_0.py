from typing import Literal

HyperparametersTrainOnReasoningType0 = Literal["auto"]

HYPERPARAMETERS_TRAIN_ON_REASONING_TYPE_0_VALUES: set[HyperparametersTrainOnReasoningType0] = {
    "auto",
}


def check_hyperparameters_train_on_reasoning_type_0(value: str) -> HyperparametersTrainOnReasoningType0:
    if value in HYPERPARAMETERS_TRAIN_ON_REASONING_TYPE_0_VALUES:
        return value
    raise TypeError(f"Unexpected value {value!r}. Expected one of {HYPERPARAMETERS_TRAIN_ON_REASONING_TYPE_0_VALUES!r}")

from typing import Literal

DpoHyperparametersLearningRateType0 = Literal["auto"]

DPO_HYPERPARAMETERS_LEARNING_RATE_TYPE_0_VALUES: set[DpoHyperparametersLearningRateType0] = {
    "auto",
}


def check_dpo_hyperparameters_learning_rate_type_0(value: str) -> DpoHyperparametersLearningRateType0:
    if value in DPO_HYPERPARAMETERS_LEARNING_RATE_TYPE_0_VALUES:
        return value
    raise TypeError(f"Unexpected value {value!r}. Expected one of {DPO_HYPERPARAMETERS_LEARNING_RATE_TYPE_0_VALUES!r}")

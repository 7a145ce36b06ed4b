from typing import Literal

DpoHyperparametersLrSchedulerType1 = Literal["constant", "cosine", "linear"]

DPO_HYPERPARAMETERS_LR_SCHEDULER_TYPE_1_VALUES: set[DpoHyperparametersLrSchedulerType1] = {
    "constant",
    "cosine",
    "linear",
}


def check_dpo_hyperparameters_lr_scheduler_type_1(value: str) -> DpoHyperparametersLrSchedulerType1:
    if value in DPO_HYPERPARAMETERS_LR_SCHEDULER_TYPE_1_VALUES:
        return value
    raise TypeError(f"Unexpected value {value!r}. Expected one of {DPO_HYPERPARAMETERS_LR_SCHEDULER_TYPE_1_VALUES!r}")

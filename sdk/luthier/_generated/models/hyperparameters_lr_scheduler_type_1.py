from typing import Literal

HyperparametersLrSchedulerType1 = Literal["constant", "cosine", "linear"]

HYPERPARAMETERS_LR_SCHEDULER_TYPE_1_VALUES: set[HyperparametersLrSchedulerType1] = {
    "constant",
    "cosine",
    "linear",
}


def check_hyperparameters_lr_scheduler_type_1(value: str) -> HyperparametersLrSchedulerType1:
    if value in HYPERPARAMETERS_LR_SCHEDULER_TYPE_1_VALUES:
        return value
    raise TypeError(f"Unexpected value {value!r}. Expected one of {HYPERPARAMETERS_LR_SCHEDULER_TYPE_1_VALUES!r}")

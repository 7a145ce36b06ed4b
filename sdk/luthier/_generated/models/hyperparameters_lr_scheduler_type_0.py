from typing import Literal

HyperparametersLrSchedulerType0 = Literal["auto"]

HYPERPARAMETERS_LR_SCHEDULER_TYPE_0_VALUES: set[HyperparametersLrSchedulerType0] = {
    "auto",
}


def check_hyperparameters_lr_scheduler_type_0(value: str) -> HyperparametersLrSchedulerType0:
    if value in HYPERPARAMETERS_LR_SCHEDULER_TYPE_0_VALUES:
        return value
    raise TypeError(f"Unexpected value {value!r}. Expected one of {HYPERPARAMETERS_LR_SCHEDULER_TYPE_0_VALUES!r}")

from typing import Literal

DpoHyperparametersLrSchedulerType0 = Literal["auto"]

DPO_HYPERPARAMETERS_LR_SCHEDULER_TYPE_0_VALUES: set[DpoHyperparametersLrSchedulerType0] = {
    "auto",
}


def check_dpo_hyperparameters_lr_scheduler_type_0(value: str) -> DpoHyperparametersLrSchedulerType0:
    if value in DPO_HYPERPARAMETERS_LR_SCHEDULER_TYPE_0_VALUES:
        return value
    raise TypeError(f"Unexpected value {value!r}. Expected one of {DPO_HYPERPARAMETERS_LR_SCHEDULER_TYPE_0_VALUES!r}")

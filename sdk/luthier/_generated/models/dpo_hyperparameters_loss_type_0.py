from typing import Literal

DpoHyperparametersLossType0 = Literal["auto"]

DPO_HYPERPARAMETERS_LOSS_TYPE_0_VALUES: set[DpoHyperparametersLossType0] = {
    "auto",
}


def check_dpo_hyperparameters_loss_type_0(value: str) -> DpoHyperparametersLossType0:
    if value in DPO_HYPERPARAMETERS_LOSS_TYPE_0_VALUES:
        return value
    raise TypeError(f"Unexpected value {value!r}. Expected one of {DPO_HYPERPARAMETERS_LOSS_TYPE_0_VALUES!r}")

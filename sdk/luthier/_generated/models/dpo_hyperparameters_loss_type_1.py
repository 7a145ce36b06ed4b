from typing import Literal

DpoHyperparametersLossType1 = Literal["ipo", "sigmoid"]

DPO_HYPERPARAMETERS_LOSS_TYPE_1_VALUES: set[DpoHyperparametersLossType1] = {
    "ipo",
    "sigmoid",
}


def check_dpo_hyperparameters_loss_type_1(value: str) -> DpoHyperparametersLossType1:
    if value in DPO_HYPERPARAMETERS_LOSS_TYPE_1_VALUES:
        return value
    raise TypeError(f"Unexpected value {value!r}. Expected one of {DPO_HYPERPARAMETERS_LOSS_TYPE_1_VALUES!r}")

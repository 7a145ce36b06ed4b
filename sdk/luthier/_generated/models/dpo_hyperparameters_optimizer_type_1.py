from typing import Literal

DpoHyperparametersOptimizerType1 = Literal["adafactor", "adamw", "adamw8bit", "sgd"]

DPO_HYPERPARAMETERS_OPTIMIZER_TYPE_1_VALUES: set[DpoHyperparametersOptimizerType1] = {
    "adafactor",
    "adamw",
    "adamw8bit",
    "sgd",
}


def check_dpo_hyperparameters_optimizer_type_1(value: str) -> DpoHyperparametersOptimizerType1:
    if value in DPO_HYPERPARAMETERS_OPTIMIZER_TYPE_1_VALUES:
        return value
    raise TypeError(f"Unexpected value {value!r}. Expected one of {DPO_HYPERPARAMETERS_OPTIMIZER_TYPE_1_VALUES!r}")

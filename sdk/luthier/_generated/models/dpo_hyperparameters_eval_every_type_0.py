from typing import Literal

DpoHyperparametersEvalEveryType0 = Literal["auto"]

DPO_HYPERPARAMETERS_EVAL_EVERY_TYPE_0_VALUES: set[DpoHyperparametersEvalEveryType0] = {
    "auto",
}


def check_dpo_hyperparameters_eval_every_type_0(value: str) -> DpoHyperparametersEvalEveryType0:
    if value in DPO_HYPERPARAMETERS_EVAL_EVERY_TYPE_0_VALUES:
        return value
    raise TypeError(f"Unexpected value {value!r}. Expected one of {DPO_HYPERPARAMETERS_EVAL_EVERY_TYPE_0_VALUES!r}")

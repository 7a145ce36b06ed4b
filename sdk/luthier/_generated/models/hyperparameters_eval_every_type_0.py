from typing import Literal

HyperparametersEvalEveryType0 = Literal["auto"]

HYPERPARAMETERS_EVAL_EVERY_TYPE_0_VALUES: set[HyperparametersEvalEveryType0] = {
    "auto",
}


def check_hyperparameters_eval_every_type_0(value: str) -> HyperparametersEvalEveryType0:
    if value in HYPERPARAMETERS_EVAL_EVERY_TYPE_0_VALUES:
        return value
    raise TypeError(f"Unexpected value {value!r}. Expected one of {HYPERPARAMETERS_EVAL_EVERY_TYPE_0_VALUES!r}")

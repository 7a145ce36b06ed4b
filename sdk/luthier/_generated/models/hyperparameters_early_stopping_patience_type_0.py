from typing import Literal

HyperparametersEarlyStoppingPatienceType0 = Literal["auto"]

HYPERPARAMETERS_EARLY_STOPPING_PATIENCE_TYPE_0_VALUES: set[HyperparametersEarlyStoppingPatienceType0] = {
    "auto",
}


def check_hyperparameters_early_stopping_patience_type_0(value: str) -> HyperparametersEarlyStoppingPatienceType0:
    if value in HYPERPARAMETERS_EARLY_STOPPING_PATIENCE_TYPE_0_VALUES:
        return value
    raise TypeError(
        f"Unexpected value {value!r}. Expected one of {HYPERPARAMETERS_EARLY_STOPPING_PATIENCE_TYPE_0_VALUES!r}"
    )

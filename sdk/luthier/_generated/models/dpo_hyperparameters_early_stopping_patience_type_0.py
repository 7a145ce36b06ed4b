from typing import Literal

DpoHyperparametersEarlyStoppingPatienceType0 = Literal["auto"]

DPO_HYPERPARAMETERS_EARLY_STOPPING_PATIENCE_TYPE_0_VALUES: set[DpoHyperparametersEarlyStoppingPatienceType0] = {
    "auto",
}


def check_dpo_hyperparameters_early_stopping_patience_type_0(
    value: str,
) -> DpoHyperparametersEarlyStoppingPatienceType0:
    if value in DPO_HYPERPARAMETERS_EARLY_STOPPING_PATIENCE_TYPE_0_VALUES:
        return value
    raise TypeError(
        f"Unexpected value {value!r}. Expected one of {DPO_HYPERPARAMETERS_EARLY_STOPPING_PATIENCE_TYPE_0_VALUES!r}"
    )

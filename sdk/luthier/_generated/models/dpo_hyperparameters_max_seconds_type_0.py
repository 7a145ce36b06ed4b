from typing import Literal

DpoHyperparametersMaxSecondsType0 = Literal["auto"]

DPO_HYPERPARAMETERS_MAX_SECONDS_TYPE_0_VALUES: set[DpoHyperparametersMaxSecondsType0] = {
    "auto",
}


def check_dpo_hyperparameters_max_seconds_type_0(value: str) -> DpoHyperparametersMaxSecondsType0:
    if value in DPO_HYPERPARAMETERS_MAX_SECONDS_TYPE_0_VALUES:
        return value
    raise TypeError(f"Unexpected value {value!r}. Expected one of {DPO_HYPERPARAMETERS_MAX_SECONDS_TYPE_0_VALUES!r}")

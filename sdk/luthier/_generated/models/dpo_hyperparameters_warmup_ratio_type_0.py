from typing import Literal

DpoHyperparametersWarmupRatioType0 = Literal["auto"]

DPO_HYPERPARAMETERS_WARMUP_RATIO_TYPE_0_VALUES: set[DpoHyperparametersWarmupRatioType0] = {
    "auto",
}


def check_dpo_hyperparameters_warmup_ratio_type_0(value: str) -> DpoHyperparametersWarmupRatioType0:
    if value in DPO_HYPERPARAMETERS_WARMUP_RATIO_TYPE_0_VALUES:
        return value
    raise TypeError(f"Unexpected value {value!r}. Expected one of {DPO_HYPERPARAMETERS_WARMUP_RATIO_TYPE_0_VALUES!r}")

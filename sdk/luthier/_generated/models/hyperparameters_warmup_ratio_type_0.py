from typing import Literal

HyperparametersWarmupRatioType0 = Literal["auto"]

HYPERPARAMETERS_WARMUP_RATIO_TYPE_0_VALUES: set[HyperparametersWarmupRatioType0] = {
    "auto",
}


def check_hyperparameters_warmup_ratio_type_0(value: str) -> HyperparametersWarmupRatioType0:
    if value in HYPERPARAMETERS_WARMUP_RATIO_TYPE_0_VALUES:
        return value
    raise TypeError(f"Unexpected value {value!r}. Expected one of {HYPERPARAMETERS_WARMUP_RATIO_TYPE_0_VALUES!r}")

from typing import Literal

HyperparametersBatchSizeType0 = Literal["auto"]

HYPERPARAMETERS_BATCH_SIZE_TYPE_0_VALUES: set[HyperparametersBatchSizeType0] = {
    "auto",
}


def check_hyperparameters_batch_size_type_0(value: str) -> HyperparametersBatchSizeType0:
    if value in HYPERPARAMETERS_BATCH_SIZE_TYPE_0_VALUES:
        return value
    raise TypeError(f"Unexpected value {value!r}. Expected one of {HYPERPARAMETERS_BATCH_SIZE_TYPE_0_VALUES!r}")

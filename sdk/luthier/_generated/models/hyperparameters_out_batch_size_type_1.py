from typing import Literal

HyperparametersOutBatchSizeType1 = Literal["auto"]

HYPERPARAMETERS_OUT_BATCH_SIZE_TYPE_1_VALUES: set[HyperparametersOutBatchSizeType1] = {
    "auto",
}


def check_hyperparameters_out_batch_size_type_1(value: str) -> HyperparametersOutBatchSizeType1:
    if value in HYPERPARAMETERS_OUT_BATCH_SIZE_TYPE_1_VALUES:
        return value
    raise TypeError(f"Unexpected value {value!r}. Expected one of {HYPERPARAMETERS_OUT_BATCH_SIZE_TYPE_1_VALUES!r}")

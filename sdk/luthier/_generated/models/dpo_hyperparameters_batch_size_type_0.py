from typing import Literal

DpoHyperparametersBatchSizeType0 = Literal["auto"]

DPO_HYPERPARAMETERS_BATCH_SIZE_TYPE_0_VALUES: set[DpoHyperparametersBatchSizeType0] = {
    "auto",
}


def check_dpo_hyperparameters_batch_size_type_0(value: str) -> DpoHyperparametersBatchSizeType0:
    if value in DPO_HYPERPARAMETERS_BATCH_SIZE_TYPE_0_VALUES:
        return value
    raise TypeError(f"Unexpected value {value!r}. Expected one of {DPO_HYPERPARAMETERS_BATCH_SIZE_TYPE_0_VALUES!r}")

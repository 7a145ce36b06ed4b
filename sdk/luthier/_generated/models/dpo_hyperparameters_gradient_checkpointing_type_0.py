from typing import Literal

DpoHyperparametersGradientCheckpointingType0 = Literal["auto"]

DPO_HYPERPARAMETERS_GRADIENT_CHECKPOINTING_TYPE_0_VALUES: set[DpoHyperparametersGradientCheckpointingType0] = {
    "auto",
}


def check_dpo_hyperparameters_gradient_checkpointing_type_0(value: str) -> DpoHyperparametersGradientCheckpointingType0:
    if value in DPO_HYPERPARAMETERS_GRADIENT_CHECKPOINTING_TYPE_0_VALUES:
        return value
    raise TypeError(
        f"Unexpected value {value!r}. Expected one of {DPO_HYPERPARAMETERS_GRADIENT_CHECKPOINTING_TYPE_0_VALUES!r}"
    )

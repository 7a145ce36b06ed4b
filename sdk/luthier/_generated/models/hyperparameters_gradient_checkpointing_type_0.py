from typing import Literal

HyperparametersGradientCheckpointingType0 = Literal["auto"]

HYPERPARAMETERS_GRADIENT_CHECKPOINTING_TYPE_0_VALUES: set[HyperparametersGradientCheckpointingType0] = {
    "auto",
}


def check_hyperparameters_gradient_checkpointing_type_0(value: str) -> HyperparametersGradientCheckpointingType0:
    if value in HYPERPARAMETERS_GRADIENT_CHECKPOINTING_TYPE_0_VALUES:
        return value
    raise TypeError(
        f"Unexpected value {value!r}. Expected one of {HYPERPARAMETERS_GRADIENT_CHECKPOINTING_TYPE_0_VALUES!r}"
    )

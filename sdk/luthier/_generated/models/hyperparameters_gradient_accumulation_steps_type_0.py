from typing import Literal

HyperparametersGradientAccumulationStepsType0 = Literal["auto"]

HYPERPARAMETERS_GRADIENT_ACCUMULATION_STEPS_TYPE_0_VALUES: set[HyperparametersGradientAccumulationStepsType0] = {
    "auto",
}


def check_hyperparameters_gradient_accumulation_steps_type_0(
    value: str,
) -> HyperparametersGradientAccumulationStepsType0:
    if value in HYPERPARAMETERS_GRADIENT_ACCUMULATION_STEPS_TYPE_0_VALUES:
        return value
    raise TypeError(
        f"Unexpected value {value!r}. Expected one of {HYPERPARAMETERS_GRADIENT_ACCUMULATION_STEPS_TYPE_0_VALUES!r}"
    )

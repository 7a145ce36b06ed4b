from typing import Literal

DpoHyperparametersGradientAccumulationStepsType0 = Literal["auto"]

DPO_HYPERPARAMETERS_GRADIENT_ACCUMULATION_STEPS_TYPE_0_VALUES: set[DpoHyperparametersGradientAccumulationStepsType0] = {
    "auto",
}


def check_dpo_hyperparameters_gradient_accumulation_steps_type_0(
    value: str,
) -> DpoHyperparametersGradientAccumulationStepsType0:
    if value in DPO_HYPERPARAMETERS_GRADIENT_ACCUMULATION_STEPS_TYPE_0_VALUES:
        return value
    raise TypeError(
        f"Unexpected value {value!r}. Expected one of {DPO_HYPERPARAMETERS_GRADIENT_ACCUMULATION_STEPS_TYPE_0_VALUES!r}"
    )

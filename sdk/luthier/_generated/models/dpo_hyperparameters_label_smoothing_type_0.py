from typing import Literal

DpoHyperparametersLabelSmoothingType0 = Literal["auto"]

DPO_HYPERPARAMETERS_LABEL_SMOOTHING_TYPE_0_VALUES: set[DpoHyperparametersLabelSmoothingType0] = {
    "auto",
}


def check_dpo_hyperparameters_label_smoothing_type_0(value: str) -> DpoHyperparametersLabelSmoothingType0:
    if value in DPO_HYPERPARAMETERS_LABEL_SMOOTHING_TYPE_0_VALUES:
        return value
    raise TypeError(
        f"Unexpected value {value!r}. Expected one of {DPO_HYPERPARAMETERS_LABEL_SMOOTHING_TYPE_0_VALUES!r}"
    )

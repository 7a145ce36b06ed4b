from typing import Literal

HyperparametersLabelSmoothingType0 = Literal["auto"]

HYPERPARAMETERS_LABEL_SMOOTHING_TYPE_0_VALUES: set[HyperparametersLabelSmoothingType0] = {
    "auto",
}


def check_hyperparameters_label_smoothing_type_0(value: str) -> HyperparametersLabelSmoothingType0:
    if value in HYPERPARAMETERS_LABEL_SMOOTHING_TYPE_0_VALUES:
        return value
    raise TypeError(f"Unexpected value {value!r}. Expected one of {HYPERPARAMETERS_LABEL_SMOOTHING_TYPE_0_VALUES!r}")

from typing import Literal

DpoHyperparametersBetaType0 = Literal["auto"]

DPO_HYPERPARAMETERS_BETA_TYPE_0_VALUES: set[DpoHyperparametersBetaType0] = {
    "auto",
}


def check_dpo_hyperparameters_beta_type_0(value: str) -> DpoHyperparametersBetaType0:
    if value in DPO_HYPERPARAMETERS_BETA_TYPE_0_VALUES:
        return value
    raise TypeError(f"Unexpected value {value!r}. Expected one of {DPO_HYPERPARAMETERS_BETA_TYPE_0_VALUES!r}")

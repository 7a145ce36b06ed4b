from typing import Literal

LoraUpdateTargetExpertsType0 = Literal["auto"]

LORA_UPDATE_TARGET_EXPERTS_TYPE_0_VALUES: set[LoraUpdateTargetExpertsType0] = {
    "auto",
}


def check_lora_update_target_experts_type_0(value: str) -> LoraUpdateTargetExpertsType0:
    if value in LORA_UPDATE_TARGET_EXPERTS_TYPE_0_VALUES:
        return value
    raise TypeError(f"Unexpected value {value!r}. Expected one of {LORA_UPDATE_TARGET_EXPERTS_TYPE_0_VALUES!r}")

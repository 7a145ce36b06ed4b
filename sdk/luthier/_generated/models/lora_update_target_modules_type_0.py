from typing import Literal

LoraUpdateTargetModulesType0 = Literal["all-linear"]

LORA_UPDATE_TARGET_MODULES_TYPE_0_VALUES: set[LoraUpdateTargetModulesType0] = {
    "all-linear",
}


def check_lora_update_target_modules_type_0(value: str) -> LoraUpdateTargetModulesType0:
    if value in LORA_UPDATE_TARGET_MODULES_TYPE_0_VALUES:
        return value
    raise TypeError(f"Unexpected value {value!r}. Expected one of {LORA_UPDATE_TARGET_MODULES_TYPE_0_VALUES!r}")

from typing import Literal

LoraUpdateBasePrecision = Literal["native", "nf4"]

LORA_UPDATE_BASE_PRECISION_VALUES: set[LoraUpdateBasePrecision] = {
    "native",
    "nf4",
}


def check_lora_update_base_precision(value: str) -> LoraUpdateBasePrecision:
    if value in LORA_UPDATE_BASE_PRECISION_VALUES:
        return value
    raise TypeError(f"Unexpected value {value!r}. Expected one of {LORA_UPDATE_BASE_PRECISION_VALUES!r}")

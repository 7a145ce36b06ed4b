from typing import Literal

MethodOutType = Literal["dpo", "reinforcement", "supervised"]

METHOD_OUT_TYPE_VALUES: set[MethodOutType] = {
    "dpo",
    "reinforcement",
    "supervised",
}


def check_method_out_type(value: str) -> MethodOutType:
    if value in METHOD_OUT_TYPE_VALUES:
        return value
    raise TypeError(f"Unexpected value {value!r}. Expected one of {METHOD_OUT_TYPE_VALUES!r}")

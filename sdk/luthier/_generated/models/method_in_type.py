from typing import Literal

MethodInType = Literal["dpo", "reinforcement", "supervised"]

METHOD_IN_TYPE_VALUES: set[MethodInType] = {
    "dpo",
    "reinforcement",
    "supervised",
}


def check_method_in_type(value: str) -> MethodInType:
    if value in METHOD_IN_TYPE_VALUES:
        return value
    raise TypeError(f"Unexpected value {value!r}. Expected one of {METHOD_IN_TYPE_VALUES!r}")

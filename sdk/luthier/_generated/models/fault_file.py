from typing import Literal

FaultFile = Literal["general_file", "training_file", "validation_file"]

FAULT_FILE_VALUES: set[FaultFile] = {
    "general_file",
    "training_file",
    "validation_file",
}


def check_fault_file(value: str) -> FaultFile:
    if value in FAULT_FILE_VALUES:
        return value
    raise TypeError(f"Unexpected value {value!r}. Expected one of {FAULT_FILE_VALUES!r}")

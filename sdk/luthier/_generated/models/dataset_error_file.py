from typing import Literal

DatasetErrorFile = Literal["general_file", "training_file", "validation_file"]

DATASET_ERROR_FILE_VALUES: set[DatasetErrorFile] = {
    "general_file",
    "training_file",
    "validation_file",
}


def check_dataset_error_file(value: str) -> DatasetErrorFile:
    if value in DATASET_ERROR_FILE_VALUES:
        return value
    raise TypeError(f"Unexpected value {value!r}. Expected one of {DATASET_ERROR_FILE_VALUES!r}")

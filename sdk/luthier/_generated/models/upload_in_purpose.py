from typing import Literal

UploadInPurpose = Literal["assistants", "batch", "evals", "fine-tune", "user_data", "vision"]

UPLOAD_IN_PURPOSE_VALUES: set[UploadInPurpose] = {
    "assistants",
    "batch",
    "evals",
    "fine-tune",
    "user_data",
    "vision",
}


def check_upload_in_purpose(value: str) -> UploadInPurpose:
    if value in UPLOAD_IN_PURPOSE_VALUES:
        return value
    raise TypeError(f"Unexpected value {value!r}. Expected one of {UPLOAD_IN_PURPOSE_VALUES!r}")

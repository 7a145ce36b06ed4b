from typing import Literal

BatchOutStatus = Literal[
    "cancelled", "cancelling", "completed", "expired", "failed", "finalizing", "in_progress", "validating"
]

BATCH_OUT_STATUS_VALUES: set[BatchOutStatus] = {
    "cancelled",
    "cancelling",
    "completed",
    "expired",
    "failed",
    "finalizing",
    "in_progress",
    "validating",
}


def check_batch_out_status(value: str) -> BatchOutStatus:
    if value in BATCH_OUT_STATUS_VALUES:
        return value
    raise TypeError(f"Unexpected value {value!r}. Expected one of {BATCH_OUT_STATUS_VALUES!r}")

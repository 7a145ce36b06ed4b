"""Conversion of exceptions to failures with a run code."""

from __future__ import annotations

import errno

import torch

from training.errors import RUN_CODES, InvalidDataset, TrainingError
from training.run_events import Failure

_DISK_FULL_ERRNOS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def to_failure(error: Exception) -> Failure | None:
    """Convert an exception to a failure that ends the job.

    Return None if another attempt may succeed or the cause is unknown: the process then ends with
    its traceback.
    """
    match error:
        case InvalidDataset():
            return Failure(
                code=error.code,
                message=error.message,
                param=error.param,
                faults=error.errors,
                fault_count=error.count,
            )
        case TrainingError():
            return Failure(code=error.code, message=f"{error.message} {RUN_CODES[error.code]}", param=error.param)
        case OSError() if error.errno in _DISK_FULL_ERRNOS:
            return _build_failure("disk_full", "The worker's disk is full.")
        case _ if is_out_of_memory(error):
            return _build_failure("out_of_memory", "The run needs more memory than the worker has.")
    return None


def _build_failure(code: str, message: str) -> Failure:
    return Failure(code=code, message=f"{message} {RUN_CODES[code]}")


def is_out_of_memory(error: Exception) -> bool:
    """Return True if an allocation failed, on any device."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)) or getattr(error, "errno", None) == errno.ENOMEM:
        return True
    # The CPU allocator raises a plain RuntimeError.
    return isinstance(error, RuntimeError) and "DefaultCPUAllocator: can't allocate memory" in str(error)

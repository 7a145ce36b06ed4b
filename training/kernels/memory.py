"""Activation checkpointing, and the heap of a training process.

glibc returns memory that is freed at the end of the heap, and large blocks, to the system
immediately. A training step frees all of its activations, so in the next step each page is faulted
in and zeroed again. On a virtual machine, a page fault takes longer than an elementwise operation
on the page. A heap that keeps its memory is fragmented, though: it is larger than the tensors in
it, and with activation checkpointing, whose tensors come and go, more than twice as large.
"""

from __future__ import annotations

import ctypes
import platform
from typing import Any

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4
"""glibc's ``M_TRIM_THRESHOLD``, ``M_MMAP_THRESHOLD`` and ``M_MMAP_MAX``, from its malloc.h."""
_MAPPED_BLOCK_BYTES = 1 << 20


def keep_freed_memory() -> None:
    """Keep freed memory for the rest of the process. Does nothing if the C library is not glibc."""
    # Allocate no block with mmap, and never shrink the heap.
    _set_options({_MMAP_MAX: 0, _TRIM_THRESHOLD: 2**31 - 1})


def supports_checkpointing(model: Any) -> bool:
    return bool(getattr(model, "supports_gradient_checkpointing", False))


def enable_checkpointing(model: Any) -> bool:
    """Recompute each block's activations in the backward pass instead of keeping them.

    Return False if the model does not support it. transformers before 5.23 names the method
    ``gradient_checkpointing_enable``.
    """
    if not supports_checkpointing(model):
        return False
    options = {"use_reentrant": False}
    if hasattr(model, "activation_checkpointing_enable"):
        model.activation_checkpointing_enable(activation_checkpointing_kwargs=options)
    else:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs=options)
    _return_freed_memory()
    return True


def _return_freed_memory() -> None:
    """Return large freed blocks at once, for the rest of the process: slower, but the process takes
    no more memory than its tensors."""
    _set_options({_MMAP_MAX: 65536, _MMAP_THRESHOLD: _MAPPED_BLOCK_BYTES, _TRIM_THRESHOLD: _MAPPED_BLOCK_BYTES})


def _set_options(options: dict[int, int]) -> None:
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        for option, value in options.items():
            libc.mallopt(option, value)

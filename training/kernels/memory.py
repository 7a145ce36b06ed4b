"""Retention of freed heap memory in the process.

glibc returns memory that is freed at the end of the heap, and large blocks, to the system
immediately. A training step frees all of its activations, so in the next step each page is faulted
in and zeroed again. On a virtual machine, a page fault takes longer than an elementwise operation
on the page.
"""

from __future__ import annotations

import ctypes
import platform

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
"""glibc's ``M_TRIM_THRESHOLD`` and ``M_MMAP_MAX``, from its malloc.h."""


def disable_heap_trimming() -> None:
    """Keep freed memory for the rest of the process. Does nothing if the C library is not glibc."""
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        # Allocate no block with mmap, and never shrink the heap.
        libc.mallopt(_MMAP_MAX, 0)
        libc.mallopt(_TRIM_THRESHOLD, 2**31 - 1)

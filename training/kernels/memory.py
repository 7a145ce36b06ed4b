"""Memory that a process has once used stays its own.

glibc returns what is freed at the end of its heap, and large blocks at once, to the system; a step frees all of its
activations, and in the next one each page is faulted in and zeroed anew. On a virtual machine a fault takes longer than
an elementwise operation on its page.
"""

from __future__ import annotations

import ctypes
import platform

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
"""glibc's ``M_TRIM_THRESHOLD`` and ``M_MMAP_MAX``, from its malloc.h."""


def disable_heap_trimming() -> None:
    """For the rest of the process, from now on; where the C library is not glibc, nothing changes."""
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        # No block is mapped on its own, and the heap never shrinks.
        libc.mallopt(_MMAP_MAX, 0)
        libc.mallopt(_TRIM_THRESHOLD, 2**31 - 1)

"""Where and in what arithmetic a run computes."""

from __future__ import annotations

import warnings
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
import transformers


@dataclass(frozen=True)
class Place:
    """A device and the dtype its matrix products run in."""

    device: torch.device
    dtype: torch.dtype

    @property
    def dtype_name(self) -> str:
        return str(self.dtype).removeprefix("torch.")

    def autocast(self) -> AbstractContextManager[None]:
        return torch.autocast(self.device.type, dtype=self.dtype, enabled=self.dtype != torch.float32)


def choose() -> Place:
    """CUDA, else Apple's GPU, else the CPU; bf16 where it is faster than fp32."""
    if torch.cuda.is_available():
        bf16 = torch.cuda.get_device_capability() >= (8, 0)
        return Place(torch.device("cuda"), torch.bfloat16 if bf16 else torch.float32)
    if torch.backends.mps.is_available():
        return Place(torch.device("mps"), torch.float32)
    return Place(torch.device("cpu"), torch.bfloat16 if _cpu_multiplies_bf16() else torch.float32)


def _cpu_multiplies_bf16() -> bool:
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def prepare(threads: int | None) -> None:
    """The same bits every time: the number of threads decides how sums are split."""
    if threads is not None:
        torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True)
    # Filling fresh memory is for finding reads of it, and costs a pass over every tensor.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    # PEFT asks transformers by an old name; nobody who reads a worker's log can do anything about it.
    warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing", category=FutureWarning)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()


def threads() -> int:
    return torch.get_num_threads()

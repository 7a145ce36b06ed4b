"""Selection of the device and the compute dtype of a run."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import NamedTuple

import torch
import transformers

from training.spec import Precision


@dataclass(frozen=True)
class Device:
    """A torch device and the dtype of its matrix products."""

    torch_device: torch.device
    dtype: torch.dtype

    @property
    def dtype_name(self) -> Precision:
        return next(name for name, dtype in DTYPES.items() if dtype == self.dtype)

    @property
    def token_budget(self) -> TokenBudget:
        return TOKEN_BUDGETS[self.torch_device.type]

    def autocast(self) -> AbstractContextManager[None]:
        return torch.autocast(self.torch_device.type, dtype=self.dtype, enabled=self.dtype != torch.float32)


DTYPES: Mapping[Precision, torch.dtype] = {"float32": torch.float32, "bfloat16": torch.bfloat16}


class TokenBudget(NamedTuple):
    """Number of tokens that a device processes in one forward pass."""

    micro_batch: int
    """Tokens at which throughput is highest. A GPU needs many. A CPU needs just enough to fill its
    matrix units, so that the activations passed between blocks stay in its cache."""
    max_tokens: int
    """Tokens that fit in memory, padding included."""


TOKEN_BUDGETS: Mapping[str, TokenBudget] = {
    "cuda": TokenBudget(16_384, 16_384),
    "mps": TokenBudget(4096, 8192),
    "cpu": TokenBudget(2048, 8192),
}
"""Device type -> budget."""


def select_device(precision: Precision | None = None) -> Device:
    """Select CUDA, else Apple's GPU, else the CPU.

    The dtype is ``precision`` if given, else bf16 on devices that compute it faster than fp32.
    """
    fastest = _select_fastest()
    return fastest if precision is None else Device(fastest.torch_device, DTYPES[precision])


def _select_fastest() -> Device:
    if torch.cuda.is_available():
        bf16 = torch.cuda.get_device_capability() >= (8, 0)
        return Device(torch.device("cuda"), torch.bfloat16 if bf16 else torch.float32)
    if torch.backends.mps.is_available():
        return Device(torch.device("mps"), torch.float32)
    return Device(torch.device("cpu"), torch.bfloat16 if _has_cpu_bf16() else torch.float32)


def _has_cpu_bf16() -> bool:
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def configure_torch(threads: int | None) -> None:
    """Make torch deterministic and silence the libraries' logs.

    The number of threads decides how sums are split, so the same number gives the same bits.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True)
    # Filling uninitialized memory only helps debugging and costs a pass over every tensor.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    # PEFT calls transformers by a deprecated name; a reader of the worker's log cannot fix that.
    warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing", category=FutureWarning)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()


def get_num_threads() -> int:
    return torch.get_num_threads()

"""Where and in what arithmetic a run computes."""

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
    """A device and the dtype its matrix products run in."""

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
    """How many tokens a device takes at a time."""

    micro_batch: int
    """At which it works best: a GPU wants many; a CPU as few as still fill its matrix units, so that what one block
    gives the next is still in its cache."""
    max_tokens: int
    """That there is memory for, padding included."""


TOKEN_BUDGETS: Mapping[str, TokenBudget] = {
    "cuda": TokenBudget(16_384, 16_384),
    "mps": TokenBudget(4096, 8192),
    "cpu": TokenBudget(2048, 8192),
}
"""By type of device."""


def select_device(precision: Precision | None = None) -> Device:
    """CUDA, else Apple's GPU, else the CPU; bf16 where it is faster than fp32, unless ``precision`` says otherwise."""
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


def get_num_threads() -> int:
    return torch.get_num_threads()

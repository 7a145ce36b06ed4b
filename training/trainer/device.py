"""Selection of the device and the compute dtype of a run, and measurement of its memory."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
import transformers

from training.hyperparameters.device_fit import DeviceLimits
from training.hyperparameters.host_memory import measure_free_host_bytes
from training.run_events import DeviceReport
from training.spec import Precision


@dataclass(frozen=True)
class Device:
    """A torch device and the dtype of its matrix products."""

    torch_device: torch.device
    dtype: torch.dtype

    @property
    def dtype_name(self) -> Precision:
        return next(name for name, dtype in DTYPES.items() if dtype == self.dtype)

    def autocast(self) -> AbstractContextManager[None]:
        return torch.autocast(self.torch_device.type, dtype=self.dtype, enabled=self.dtype != torch.float32)


DTYPES: Mapping[Precision, torch.dtype] = {"float32": torch.float32, "bfloat16": torch.bfloat16}


PRECISIONS: Mapping[str, Sequence[Precision]] = {
    "cpu": ("float32", "bfloat16"),
    "cuda": ("float32", "bfloat16"),
    "mps": ("float32",),
}
"""Device type -> precisions that it computes, fast or slow."""
MPS_SHARE = 0.9
"""Share of Apple's recommended maximum that a process may take."""


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
    return select_cpu()


def select_cpu() -> Device:
    """Return the CPU in the precision that it computes fastest. Does not look for accelerators."""
    return Device(torch.device("cpu"), torch.bfloat16 if _has_cpu_bf16() else torch.float32)


def _has_cpu_bf16() -> bool:
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def measure_limits() -> DeviceLimits:
    """Return the device that this process trains on and its free memory."""
    return _measure_limits(select_device())


def report_device(device: Device | None = None) -> DeviceReport:
    """Measure a device. None: the one that this process would train on."""
    device = device or select_device()
    limits = _measure_limits(device)
    return DeviceReport(
        device_type=limits.type,
        precisions=list(limits.precisions),
        free_bytes=limits.free_bytes,
        flops_per_second={
            precision: _measure_flops_per_second(Device(device.torch_device, DTYPES[precision]))
            for precision in limits.precisions
        },
    )


def _measure_limits(device: Device) -> DeviceLimits:
    kind = device.torch_device.type
    # A narrower precision takes less memory, also where it is slow. A wider one never helps.
    others = [name for name in PRECISIONS[kind] if DTYPES[name].itemsize < device.dtype.itemsize]
    return DeviceLimits(kind, [device.dtype_name, *others], _FREE_BYTES[kind]())


def _measure_free_cuda_bytes() -> int:
    free, _ = torch.cuda.mem_get_info()
    # Memory that torch has reserved is free for its own tensors.
    return int(free + torch.cuda.memory_reserved() - torch.cuda.memory_allocated())


def _measure_free_mps_bytes() -> int:
    return round(MPS_SHARE * torch.mps.recommended_max_memory() - torch.mps.current_allocated_memory())


_FREE_BYTES: Mapping[str, Callable[[], int]] = {
    "cpu": measure_free_host_bytes,
    "cuda": _measure_free_cuda_bytes,
    "mps": _measure_free_mps_bytes,
}


def _measure_flops_per_second(device: Device) -> float:
    """Return the best speed of a few matrix products, some milliseconds each."""
    width = 512
    square = torch.ones(width, width, device=device.torch_device, dtype=device.dtype)
    durations = []
    for _ in range(5):
        start = time.perf_counter()
        # Reading a number waits for the GPU.
        (square @ square)[0, 0].item()
        durations.append(time.perf_counter() - start)
    return 2 * width**3 / min(durations)


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

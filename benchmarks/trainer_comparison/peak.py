"""Peak FLOP/s of matrix multiplication on this machine.

``python -m benchmarks.trainer_comparison.peak THREADS`` prints FLOP/s by dtype.
"""

from __future__ import annotations

import json
import sys
import time

import torch

MATRIX_SIZES = (1024, 2048)
MEASURE_SECONDS = 2.0
"""Measurement time per size and dtype."""


def measure_peak_flops(dtype: torch.dtype) -> float:
    """Return the best FLOP/s over many products of square matrices."""
    return max(_measure_matmul_flops(size, dtype) for size in MATRIX_SIZES)


def _measure_matmul_flops(size: int, dtype: torch.dtype) -> float:
    left, right = (torch.randn(size, size).to(dtype) for _ in range(2))
    torch.mm(left, right)
    began, best = time.perf_counter(), float("inf")
    while time.perf_counter() - began < MEASURE_SECONDS:
        start = time.perf_counter()
        torch.mm(left, right)
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best


def main(threads: int) -> None:
    torch.set_num_threads(threads)
    print(json.dumps({name: measure_peak_flops(getattr(torch, name)) for name in ("float32", "bfloat16")}))


if __name__ == "__main__":
    main(int(sys.argv[1]))

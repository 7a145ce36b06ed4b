"""Estimates of a run's duration and memory from its size and the device's speed. No torch.

docs/jobs.md describes the rules. Earlier runs, if there are any, give a better estimate of the
duration: see :func:`estimate_duration`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median

from training.run_reports import Plan, Range

PROCESS_BYTES: Mapping[str, float] = {"cpu": 0.55e9, "cuda": 0.5e9, "mps": 0.3e9}
"""Device type -> bytes of its memory that a process takes before it loads a model: torch and
transformers on a CPU, the CUDA context on a GPU."""
STARTUP_SECONDS = 3.0
"""Time to fork, read the rows again and write the result."""
LOAD_BYTES_PER_SECOND = 1e9
FLOPS_UTILIZATION = 0.35
"""Speed of training as a share of the speed of one large matrix product."""
SLOWEST_FLOPS_PER_SECOND: Mapping[str, float] = {"cuda": 1e12, "mps": 1e11, "cpu": 5e9}
"""Device type -> speed that every machine that trains exceeds."""
SLOWEST_BYTES_PER_SECOND = 1e7
"""Speed of a disk that every worker exceeds."""
TRAINING_FLOPS_PER_PARAMETER = 8.0
"""FLOPs per weight and token at most: with activations computed again in the backward pass."""

FLOPS_PER_PARAMETER: Mapping[str, float] = {"full": 6.0, "lora": 4.5, "layers": 3.0, "head": 1.0}
"""FLOPs per weight and token: 2 for the forward pass, 2 for the gradient of the activations, 2 for
the gradient of the weight if it is trained."""


def estimate_slowest_pass(parameters: int, tokens: int, device_type: str) -> float:
    """Return an upper estimate of the seconds for one micro-batch of ``tokens``."""
    return TRAINING_FLOPS_PER_PARAMETER * parameters * tokens / SLOWEST_FLOPS_PER_SECOND[device_type]


def estimate_slowest_transfer(num_bytes: int) -> float:
    """Return an upper estimate of the seconds to read or write a model."""
    return num_bytes / SLOWEST_BYTES_PER_SECOND


def estimate_throughput(update: str, parameters: int, flops_per_second: float) -> float:
    """Estimate tokens per second. ``flops_per_second`` is the speed of a large matrix product in
    the run's dtype."""
    return FLOPS_UTILIZATION * flops_per_second / (FLOPS_PER_PARAMETER[update] * parameters)


def estimate_peak_memory(step_bytes: float, device_type: str) -> Range:
    """Estimate the memory that a training process takes of its device.

    ``step_bytes``: see ``training.models.step_memory``.
    """
    process = PROCESS_BYTES[device_type]
    low, expected, high = (round(share * step_bytes + process) for share in (0.8, 1.0, 1.25))
    return Range(low=low, expected=expected, high=high)


def select_throughput(plan: Plan, speeds: Sequence[float]) -> float:
    """Return tokens per second: the median of similar earlier runs, or the plan's estimate if there
    are none."""
    return median(speeds) if speeds else plan.tokens_per_second


def estimate_duration(plan: Plan, speeds: Sequence[float], max_seconds: int | None) -> Range:
    """Estimate the seconds of training, from the start of the process to the model.

    ``speeds`` are the tokens per second of similar earlier runs. With them, the range spans the
    slowest and the fastest, widened by a quarter, around the median. Without them, it spans a third
    to three times the plan's estimate. ``max_seconds`` is the job's time limit.
    """
    expected_speed = select_throughput(plan, speeds)
    slow, fast = (min(speeds) / 1.25, max(speeds) * 1.25) if speeds else (expected_speed / 3, expected_speed * 3)
    low, expected, high = (
        plan.start_seconds + min(plan.total_tokens / speed, max_seconds or float("inf"))
        for speed in (fast, expected_speed, slow)
    )
    return Range(low=round(low, 1), expected=round(expected, 1), high=round(high, 1))

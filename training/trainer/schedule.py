"""The learning rate over a run."""

from __future__ import annotations

from collections.abc import Callable
from math import ceil, cos, pi

SCHEDULES: dict[str, Callable[[float], float]] = {
    "constant": lambda done: 1.0,
    "linear": lambda done: 1.0 - done,
    "cosine": lambda done: (1.0 + cos(pi * done)) / 2,
}
"""Share of the steps after the warm-up that are done, 0 to 1 -> factor of the peak rate."""


def compute_learning_rate(step: int, total_steps: int, peak_rate: float, scheduler: str, warmup_ratio: float) -> float:
    """The rate of a step, from 1 to ``total``. No step has rate 0: one would be wasted."""
    warmup = ceil(warmup_ratio * total_steps)
    if step <= warmup:
        return peak_rate * step / warmup
    return peak_rate * SCHEDULES[scheduler]((step - 1 - warmup) / (total_steps - warmup))

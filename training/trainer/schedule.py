"""Learning-rate schedules."""

from __future__ import annotations

from collections.abc import Callable
from math import ceil, cos, pi

SCHEDULES: dict[str, Callable[[float], float]] = {
    "constant": lambda done: 1.0,
    "linear": lambda done: 1.0 - done,
    "cosine": lambda done: (1.0 + cos(pi * done)) / 2,
}
"""Name -> function from the completed share of the steps after the warm-up, 0 to 1, to a factor of
the peak rate."""


def compute_learning_rate(step: int, total_steps: int, peak_rate: float, scheduler: str, warmup_ratio: float) -> float:
    """Return the learning rate of a step from 1 to ``total_steps``.

    No step has rate 0, because such a step would be wasted.
    """
    warmup = ceil(warmup_ratio * total_steps)
    if step <= warmup:
        return peak_rate * step / warmup
    return peak_rate * SCHEDULES[scheduler]((step - 1 - warmup) / (total_steps - warmup))

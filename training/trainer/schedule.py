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


def rate(step: int, total: int, peak: float, scheduler: str, warmup_ratio: float) -> float:
    """The rate of a step, from 1 to ``total``. No step has rate 0: one would be wasted."""
    warmup = ceil(warmup_ratio * total)
    if step <= warmup:
        return peak * step / warmup
    return peak * SCHEDULES[scheduler]((step - 1 - warmup) / (total - warmup))

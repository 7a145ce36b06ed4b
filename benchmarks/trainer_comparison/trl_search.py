"""TRL at its best: which of its settings trains the same targets fastest on this machine.

First dtype × gradient checkpointing on padded rows, then every way of laying out rows at the faster of those: seven
short runs. A setting whose first step takes half as long again as that of the best so far is not run further.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from math import ceil
from typing import Any, NamedTuple

from benchmarks.trainer_comparison.config import Outcome, Terms

STEPS = 3
"""The first warms up."""
SLOWER = 1.5
RUNS = 7

Settings = dict[str, Any]

DTYPES: Mapping[str, Settings] = {"fp32": {"bf16": False}, "bf16": {"bf16": True}}
CHECKPOINTING: Mapping[str, Settings] = {
    "kept": {"gradient_checkpointing": False},
    "recomputed": {"gradient_checkpointing": True},
}


class Tried(NamedTuple):
    """A setting and how it did."""

    dtype: str
    activations: str
    layout: str
    settings: Settings
    outcome: Outcome

    @property
    def row(self) -> dict[str, Any]:
        """For the result."""
        named = {"dtype": self.dtype, "activations": self.activations, "layout": self.layout}
        whole = len(self.outcome.losses) == STEPS
        gigabytes = round(self.outcome.peak_bytes / 1e9, 3)
        return named | {"tokens_per_second": round(self.outcome.speed, 1), "peak_gb": gigabytes, "whole": whole}


@dataclass(frozen=True)
class Pilot:
    """``run`` trains TRL on terms; ``lengths`` are the rows' tokens."""

    terms: Terms
    lengths: list[int]
    run: Callable[[Terms], Outcome]

    def search(self) -> Iterator[Tried]:
        """Every setting tried, as it ends."""
        tried: list[Tried] = []
        for dtype, activations in product(DTYPES, CHECKPOINTING):
            tried.append(self._try(dtype, activations, "padded", tried))
            yield tried[-1]
        best = fastest(tried)
        for layout in list(self.layouts)[1:]:
            tried.append(self._try(best.dtype, best.activations, layout, tried))
            yield tried[-1]

    @property
    def layouts(self) -> dict[str, Settings]:
        """A pack holds as many tokens as a batch of rows does on average, so that a step learns as much."""
        mean = sum(self.lengths) / len(self.lengths)
        pack = max(ceil(self.terms.batch_size * mean), *self.lengths)
        return {
            "padded": {},
            "padded, by length": {"train_sampling_strategy": "group_by_length"},
            "padding-free": {"padding_free": True, "max_length": None},
            "packed": {"packing": True, "max_length": pack, "per_device_train_batch_size": 1},
        }

    def _try(self, dtype: str, activations: str, layout: str, tried: list[Tried]) -> Tried:
        settings = DTYPES[dtype] | CHECKPOINTING[activations] | self.layouts[layout]
        patience = SLOWER * fastest(tried).outcome.first_step_seconds if tried else None
        changes = {"settings": settings, "max_steps": STEPS, "patience": patience}
        folder = self.terms.folder / str(len(tried))
        outcome = self.run(self.terms.model_copy(update={**changes, "folder": folder}))
        return Tried(dtype, activations, layout, settings, outcome)


def fastest(tried: list[Tried]) -> Tried:
    return max(tried, key=lambda one: one.outcome.speed)

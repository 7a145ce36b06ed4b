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

from benchmarks.trainer_comparison.config import Outcome, TrainerConfig

TRIAL_STEPS = 3
"""The first warms up."""
MAX_SLOWDOWN = 1.5
TRIAL_COUNT = 7

Settings = dict[str, Any]

DTYPES: Mapping[str, Settings] = {"fp32": {"bf16": False}, "bf16": {"bf16": True}}
CHECKPOINTING: Mapping[str, Settings] = {
    "kept": {"gradient_checkpointing": False},
    "recomputed": {"gradient_checkpointing": True},
}


class Trial(NamedTuple):
    """A setting and how it did."""

    dtype: str
    activations: str
    layout: str
    settings: Settings
    outcome: Outcome

    @property
    def summary(self) -> dict[str, Any]:
        """For the result."""
        named = {"dtype": self.dtype, "activations": self.activations, "layout": self.layout}
        whole = len(self.outcome.losses) == TRIAL_STEPS
        gigabytes = round(self.outcome.peak_bytes / 1e9, 3)
        return named | {
            "tokens_per_second": round(self.outcome.tokens_per_second, 1),
            "peak_gb": gigabytes,
            "whole": whole,
        }


@dataclass(frozen=True)
class SettingsSearch:
    """``run`` trains TRL on terms; ``lengths`` are the rows' tokens."""

    config: TrainerConfig
    lengths: list[int]
    run: Callable[[TrainerConfig], Outcome]

    def search(self) -> Iterator[Trial]:
        """Every setting tried, as it ends."""
        tried: list[Trial] = []
        for dtype, activations in product(DTYPES, CHECKPOINTING):
            tried.append(self._run_trial(dtype, activations, "padded", tried))
            yield tried[-1]
        best = find_fastest(tried)
        for layout in list(self.layouts)[1:]:
            tried.append(self._run_trial(best.dtype, best.activations, layout, tried))
            yield tried[-1]

    @property
    def layouts(self) -> dict[str, Settings]:
        """A pack holds as many tokens as a batch of rows does on average, so that a step learns as much."""
        mean = sum(self.lengths) / len(self.lengths)
        pack = max(ceil(self.config.batch_size * mean), *self.lengths)
        return {
            "padded": {},
            "padded, by length": {"train_sampling_strategy": "group_by_length"},
            "padding-free": {"padding_free": True, "max_length": None},
            "packed": {"packing": True, "max_length": pack, "per_device_train_batch_size": 1},
        }

    def _run_trial(self, dtype: str, activations: str, layout: str, trials: list[Trial]) -> Trial:
        settings = DTYPES[dtype] | CHECKPOINTING[activations] | self.layouts[layout]
        patience = MAX_SLOWDOWN * find_fastest(trials).outcome.first_step_seconds if trials else None
        changes = {"settings": settings, "max_steps": TRIAL_STEPS, "patience": patience}
        folder = self.config.folder / str(len(trials))
        outcome = self.run(self.config.model_copy(update={**changes, "folder": folder}))
        return Trial(dtype, activations, layout, settings, outcome)


def find_fastest(trials: list[Trial]) -> Trial:
    return max(trials, key=lambda one: one.outcome.tokens_per_second)

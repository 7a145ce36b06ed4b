"""Search for the TRL settings that train the same targets fastest on this machine.

The search takes seven short runs: first dtype × gradient checkpointing on padded rows, then every
row layout with the fastest of those. A run stops after its first step if that step takes more than
1.5 times as long as the first step of the best settings so far.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from math import ceil
from typing import Any, NamedTuple

from benchmarks.trainer_comparison.config import Outcome, TrainerConfig

TRIAL_STEPS = 3
"""Steps of a trial. The first is a warm-up."""
MAX_SLOWDOWN = 1.5
TRIAL_COUNT = 7

Settings = dict[str, Any]

DTYPES: Mapping[str, Settings] = {"fp32": {"bf16": False}, "bf16": {"bf16": True}}
CHECKPOINTING: Mapping[str, Settings] = {
    "kept": {"gradient_checkpointing": False},
    "recomputed": {"gradient_checkpointing": True},
}


class Trial(NamedTuple):
    """Settings and their outcome."""

    dtype: str
    activations: str
    layout: str
    settings: Settings
    outcome: Outcome

    @property
    def summary(self) -> dict[str, Any]:
        """Fields for the result."""
        names = {"dtype": self.dtype, "activations": self.activations, "layout": self.layout}
        complete = len(self.outcome.losses) == TRIAL_STEPS
        gigabytes = round(self.outcome.peak_bytes / 1e9, 3)
        return names | {
            "tokens_per_second": round(self.outcome.tokens_per_second, 1),
            "peak_gb": gigabytes,
            "whole": complete,
        }


@dataclass(frozen=True)
class SettingsSearch:
    """Search over TRL's settings.

    ``run`` trains with a configuration; ``lengths`` are tokens per row.
    """

    config: TrainerConfig
    lengths: list[int]
    run: Callable[[TrainerConfig], Outcome]

    def search(self) -> Iterator[Trial]:
        """Run the trials and yield each when it ends."""
        trials: list[Trial] = []
        for dtype, activations in product(DTYPES, CHECKPOINTING):
            trials.append(self._run_trial(dtype, activations, "padded", trials))
            yield trials[-1]
        best = find_fastest(trials)
        for layout in list(self.layouts)[1:]:
            trials.append(self._run_trial(best.dtype, best.activations, layout, trials))
            yield trials[-1]

    @property
    def layouts(self) -> dict[str, Settings]:
        """Settings of each row layout.

        A pack has as many tokens as an average batch, so that a step trains on as much.
        """
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
    return max(trials, key=lambda trial: trial.outcome.tokens_per_second)

"""Greedy search for the settings with which a peer trains the same targets fastest.

It runs the start settings, then stage after stage the options for one group of settings on top of
the fastest settings so far. A run stops after its first step if that step takes more than 1.25
times as long as that of the fastest settings, because most options lose clearly.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from benchmarks.trainer_comparison.config import Outcome, TrainerConfig, TrainerSettings
from benchmarks.trainer_comparison.peer_settings import Stage
from benchmarks.trainer_comparison.subprocesses import ProcessFailed

TRIAL_STEPS = 3
"""Steps of a trial. The first is a warm-up."""
MAX_SLOWDOWN = 1.25
LIMIT_SECONDS = 240.0
"""Time limit of a trial. Compilation that takes longer costs more than it saves in a short run."""
START = "start"
"""Stage of the first trial."""


class Trial(BaseModel):
    """A run with settings to compare."""

    stage: str
    option: str
    settings: TrainerSettings
    outcome: Outcome | None
    """None if the run failed or exceeded its time limit."""
    error: str | None = None

    @property
    def is_complete(self) -> bool:
        """Return True if all steps ran."""
        return self.outcome is not None and len(self.outcome.losses) == TRIAL_STEPS

    @property
    def tokens_per_second(self) -> float:
        """Speed after the first step, or of it if there is no other; 0 if the run failed."""
        return self.outcome.tokens_per_second if self.outcome else 0.0

    @property
    def summary(self) -> dict[str, Any]:
        """Fields for the result."""
        return {
            "stage": self.stage,
            "option": self.option,
            "tokens_per_second": round(self.tokens_per_second, 1),
            "peak_gb": round(self.outcome.peak_bytes / 1e9, 3) if self.outcome else None,
            "whole": self.is_complete,
            "error": self.error,
        }


@dataclass(frozen=True)
class SettingsSearch:
    """Search over the stages of a peer.

    ``run`` trains with a configuration. ``config`` has the rows of the trials.
    """

    config: TrainerConfig
    start: TrainerSettings
    stages: Sequence[Stage]
    run: Callable[[TrainerConfig], Outcome]

    def search(self) -> Iterator[Trial]:
        """Run the trials and yield each when it ends.

        Raises ``ProcessFailed`` if the run with the start settings fails.
        """
        trials = [self._run_trial(START, "", self.start, [], None)]
        if not trials[0].is_complete:
            raise ProcessFailed(f"The run with the start settings failed. {trials[0].error}")
        yield trials[0]
        for stage in self.stages:
            settings = find_fastest(trials).settings
            for option, changes in stage.list_options(settings).items():
                changed = settings.merge(changes)
                if changed == settings:
                    continue
                patience = None if stage.compiles else _compute_patience(trials)
                trials.append(self._run_trial(stage.name, option, changed, trials, patience))
                yield trials[-1]
                if stage.is_ordered and find_fastest(trials) is not trials[-1]:
                    break

    def _run_trial(
        self, stage: str, option: str, settings: TrainerSettings, trials: list[Trial], patience: float | None
    ) -> Trial:
        changes = {
            "settings": settings,
            "max_steps": TRIAL_STEPS,
            "patience": patience,
            "limit_seconds": LIMIT_SECONDS,
            "folder": self.config.folder / str(len(trials)),
        }
        try:
            outcome, error = self.run(self.config.model_copy(update=changes)), None
        except ProcessFailed as failure:
            outcome, error = None, str(failure)
        return Trial(stage=stage, option=option, settings=settings, outcome=outcome, error=error)


def _compute_patience(trials: Sequence[Trial]) -> float:
    """Return the maximum seconds of a first step."""
    fastest = find_fastest(trials).outcome
    assert fastest is not None
    return MAX_SLOWDOWN * fastest.first_step_seconds


def find_fastest(trials: Sequence[Trial]) -> Trial:
    """Return the fastest of the complete trials."""
    return max((trial for trial in trials if trial.is_complete), key=lambda trial: trial.tokens_per_second)

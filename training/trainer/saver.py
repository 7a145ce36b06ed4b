"""When weights are written, and which of them are the best."""

from __future__ import annotations

import time
from collections.abc import Callable
from math import isfinite
from pathlib import Path

from safetensors.torch import load_file

from training.models import weights
from training.run_events import Checkpoint, Message, Metrics
from training.trainer import checkpoint
from training.trainer.checkpoint import BEST, Best, Progress
from training.trainer.state import Run

SAVING_SHARE = 0.04
"""Most of the time that checkpoints made only to resume from may take."""


class Saver:
    """Writes checkpoints; when, never changes a number."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._saved = 0
        self._since = time.monotonic()
        self._took = 0.0

    def keep(self, progress: Progress) -> None:
        """A checkpoint that is a model of its own."""
        if progress.step:
            self._write(progress, self._run.write)

    def guard(self, progress: Progress, now: bool) -> None:
        """A checkpoint to resume from, where the last one is too long ago."""
        patience = max(self._run.save_seconds, self._took / SAVING_SHARE)
        if self._saved != progress.step and (now or time.monotonic() - self._since > patience):
            self._write(progress, None)

    def _write(self, progress: Progress, write_model: Callable[[Path], None] | None) -> None:
        run, start = self._run, time.monotonic()
        path = checkpoint.write(run.state, progress, write_model)
        self._saved, self._since = progress.step, time.monotonic()
        self._took = self._since - start
        told = str(path.relative_to(run.folder))
        run.emit(Checkpoint(step=progress.step, path=told, keep=write_model is not None, metrics=progress.metrics))


def judged(run: Run, progress: Progress, metrics: Metrics) -> Progress:
    """Remember what was told; with early stopping, keep the best weights and end where they are long past."""
    progress = progress.model_copy(update={"metrics": metrics})
    patience = run.hyper.early_stopping_patience
    if not patience or metrics.valid_loss is None or not isfinite(metrics.valid_loss):
        return progress
    best = progress.best
    if best is None or metrics.valid_loss < (best.metrics.valid_loss or 0.0):
        checkpoint.save_weights(run.state.tensors, run.folder / BEST)
        return progress.model_copy(update={"best": Best(metrics=metrics)})
    best = best.model_copy(update={"stale": best.stale + 1})
    ended = best.stale >= patience
    if ended:
        run.emit(
            Message(
                message=f"Stopped early at step {progress.step}: {patience} evaluations brought no lower validation "
                f"loss than {best.metrics.valid_loss:.4f} at step {best.metrics.step}."
            )
        )
    return progress.model_copy(update={"best": best, "ended": ended})


def take_best(run: Run, progress: Progress) -> Metrics:
    """Put the best weights in, where there is a choice; the metrics of what the model now is."""
    assert progress.metrics, "a run has at least one step, and its last is told"
    if progress.best is None:
        return progress.metrics
    weights.fill(run.state.tensors, load_file(run.folder / BEST))
    return progress.best.metrics

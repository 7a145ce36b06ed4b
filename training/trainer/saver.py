"""Checkpoint saving, early stopping and selection of the best weights."""

from __future__ import annotations

import time
from collections.abc import Callable
from math import isfinite
from pathlib import Path

from safetensors.torch import load_file

from training.models import weights
from training.run_events import Checkpoint, Message, Metrics
from training.trainer import checkpoint
from training.trainer.checkpoint import BEST_WEIGHTS_FILE, BestEvaluation, Progress
from training.trainer.state import TrainingRun

MAX_SAVING_SHARE = 0.04
"""Maximum share of the time spent on checkpoints that exist only to resume from."""


class Saver:
    """Writes checkpoints. When they are written does not affect the trained weights."""

    def __init__(self, run: TrainingRun) -> None:
        self._run = run
        self._saved_step = 0
        self._saved_at = time.monotonic()
        self._save_duration = 0.0

    def save_model(self, progress: Progress) -> None:
        """Save a checkpoint that includes a usable model."""
        if progress.step:
            self._write(progress, self._run.write_model)

    def save_if_due(self, progress: Progress, force: bool) -> None:
        """Save a checkpoint to resume from if ``force`` is set or the last one is too old."""
        interval = max(self._run.save_seconds, self._save_duration / MAX_SAVING_SHARE)
        if self._saved_step != progress.step and (force or time.monotonic() - self._saved_at > interval):
            self._write(progress, None)

    def _write(self, progress: Progress, write_model: Callable[[Path], None] | None) -> None:
        run, start = self._run, time.monotonic()
        run.reporter.report("saving", progress.step, run.hyper.max_steps, run.max_transfer_seconds)
        path = checkpoint.save(run.state, progress, write_model)
        self._saved_step, self._saved_at = progress.step, time.monotonic()
        self._save_duration = self._saved_at - start
        run.emit(
            Checkpoint(
                step=progress.step,
                path=str(path.relative_to(run.folder)),
                keep=write_model is not None,
                metrics=progress.metrics,
            )
        )


def update_early_stopping(run: TrainingRun, progress: Progress, metrics: Metrics) -> Progress:
    """Return the progress with ``metrics``.

    With early stopping, save the weights of the best evaluation, and end the run after
    ``early_stopping_patience`` evaluations without a lower validation loss.
    """
    progress = progress.model_copy(update={"metrics": metrics})
    patience = run.hyper.early_stopping_patience
    if not patience or metrics.valid_loss is None or not isfinite(metrics.valid_loss):
        return progress
    best = progress.best
    if best is None or metrics.valid_loss < (best.metrics.valid_loss or 0.0):
        checkpoint.save_weights(run.state.tensors, run.folder / BEST_WEIGHTS_FILE)
        return progress.model_copy(update={"best": BestEvaluation(metrics=metrics)})
    best = best.model_copy(update={"stale": best.stale + 1})
    ended = best.stale >= patience
    if ended:
        run.emit(
            Message(
                message=f"Stopped early at step {progress.step}: {patience} evaluations did not improve on the "
                f"validation loss of {best.metrics.valid_loss:.4f} at step {best.metrics.step}."
            )
        )
    return progress.model_copy(update={"best": best, "ended": ended})


def load_best(run: TrainingRun, progress: Progress) -> Metrics:
    """Load the best weights, if early stopping saved any, and return the metrics of the model."""
    assert progress.metrics, "a run has at least one step, and the last step reports metrics"
    if progress.best is None:
        return progress.metrics
    weights.copy_tensors(run.state.tensors, load_file(run.folder / BEST_WEIGHTS_FILE))
    return progress.best.metrics

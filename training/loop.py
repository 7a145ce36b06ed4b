"""The training loop: read ``train`` from top to bottom."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import ceil, isfinite
from pathlib import Path
from typing import Any

import torch

from training import checkpoint, optim, schedule, weights
from training.auto import Resolved
from training.batch import Batches, split
from training.checkpoint import Progress
from training.device import Place
from training.errors import Interrupted, TrainingError
from training.report import Checkpoint, Line, Metrics
from training.tasks.base import AnyTask, Example, State

METRIC_LINES = 1000
"""About as many steps of a run are told; which ones, their numbers decide, so that a resumed run tells the same."""
SAVING_SHARE = 0.04
"""Most of the time that checkpoints made only to resume from may take."""


@dataclass
class Stop:
    """Set by a signal; heeded at the next step's end."""

    requested: bool = False

    def heed(self) -> None:
        """Outside the loop: leave at once."""
        if self.requested:
            raise Interrupted(0)


@dataclass
class Run:
    """Everything the loop needs."""

    folder: Path
    task: AnyTask
    state: State
    hyper: Resolved
    seed: int
    save_seconds: float
    model: Any
    pad: int
    place: Place
    training: Sequence[Example]
    validation: Sequence[Example]
    write_model: Callable[[Path], None]
    emit: Callable[[Line], None]
    stop: Stop

    @cached_property
    def batches(self) -> Batches:
        return Batches([len(example.ids) for example in self.training], self.hyper.batch_size, self.seed)

    @cached_property
    def trained(self) -> dict[str, torch.nn.Parameter]:
        return weights.trainable(self.model)

    @cached_property
    def optimizer(self) -> torch.optim.Optimizer:
        return optim.build("adamw", self.trained.values(), self.hyper.weight_decay, self.place.device)

    def due(self, step: int, every: int) -> bool:
        return step % every == 0 or step == self.hyper.max_steps


def train(run: Run, progress: Progress) -> Progress:
    """From ``progress`` to the last step.

    Raises ``TrainingError`` (non_finite_loss) with the last finite weights saved, ``Interrupted`` when asked to stop.
    """
    clock, saver = _Clock(progress), _Saver(run)
    run.model.train()
    while progress.step < run.hyper.max_steps:
        step = progress.step + 1
        rows = run.batches.rows(step)
        checkpoint.seed_step(run.seed, step)
        rate = _rate(run, step)
        optim.set_rate(run.optimizer, rate)
        loss, accuracy, norm = _gradients(run, [run.training[row] for row in rows])
        if not (isfinite(loss) and isfinite(norm)):
            saver.keep(progress)
            raise TrainingError("non_finite_loss", f"The loss or its gradient is not finite at step {step}.")
        run.optimizer.step()
        run.optimizer.zero_grad(set_to_none=True)

        tokens = progress.tokens + sum(len(run.training[row].ids) for row in rows)
        progress = Progress(step=step, tokens=tokens, metrics=progress.metrics, rng_sha256=checkpoint.rng_sha256())
        valid = _evaluate(run) if run.validation and run.due(step, run.hyper.eval_every) else None
        if valid or _told(step, run.hyper.max_steps):
            metrics = Metrics(
                step=step,
                total_steps=run.hyper.max_steps,
                epoch=step / run.batches.per_epoch,
                learning_rate=rate,
                train_loss=loss,
                train_accuracy=accuracy,
                grad_norm=norm,
                valid_loss=valid[0] if valid else None,
                valid_accuracy=valid[1] if valid else None,
                tokens=tokens,
                tokens_per_second=clock.tokens_per_second(tokens),
                eta_seconds=clock.eta(step, run.hyper.max_steps),
            )
            run.emit(metrics)
            progress = progress.model_copy(update={"metrics": metrics})
        if step % run.hyper.save_every == 0:
            saver.keep(progress)
        leaving = run.stop.requested and step < run.hyper.max_steps
        saver.guard(progress, now=leaving)
        if leaving:
            raise Interrupted(step)
    return progress


def _rate(run: Run, step: int) -> float:
    hyper = run.hyper
    return schedule.rate(step, hyper.max_steps, hyper.learning_rate, hyper.lr_scheduler, hyper.warmup_ratio)


def _gradients(run: Run, examples: list[Example]) -> tuple[float, float, float]:
    """Leave the clipped gradient of the batch's mean loss on the weights: (mean loss, accuracy, gradient norm).

    Each part divides by the whole batch's weight, so the parts' gradients sum to the undivided batch's.
    """
    weight = sum(run.task.weight(example) for example in examples)
    sums = torch.zeros(2, device=run.place.device)
    for part in split(range(len(examples)), run.hyper.gradient_accumulation_steps):
        total, correct = _loss(run, examples[part[0] : part[-1] + 1], run.hyper.label_smoothing)
        torch.autograd.backward(total / weight)
        sums += torch.stack([total.detach(), correct.to(total.dtype)])
    norm = torch.nn.utils.clip_grad_norm_(run.trained.values(), run.hyper.max_grad_norm)
    # The step's only wait for the device.
    total_loss, hits, grad_norm = torch.cat([sums, norm.reshape(1)]).tolist()
    targets = sum(run.task.targets(example) for example in examples)
    return total_loss / weight, hits / targets, grad_norm


def _loss(run: Run, examples: Sequence[Example], label_smoothing: float) -> tuple[torch.Tensor, torch.Tensor]:
    batch = run.task.collate(examples, run.state, run.pad)
    with run.place.autocast():
        return run.task.loss(run.model, {name: it.to(run.place.device) for name, it in batch.items()}, label_smoothing)


@torch.inference_mode()
def _evaluate(run: Run) -> tuple[float, float]:
    """Mean loss, unsmoothed, and accuracy over the validation rows."""
    run.model.eval()
    sums = torch.zeros(2, device=run.place.device, dtype=torch.float64 if run.place.device.type != "mps" else None)
    ordered = sorted(run.validation, key=lambda example: -len(example.ids))
    size = ceil(run.hyper.batch_size / run.hyper.gradient_accumulation_steps)
    for start in range(0, len(ordered), size):
        total, correct = _loss(run, ordered[start : start + size], 0.0)
        sums += torch.stack([total, correct.to(total.dtype)])
    run.model.train()
    loss, hits = sums.tolist()
    weight = sum(run.task.weight(example) for example in ordered)
    return loss / weight, hits / sum(run.task.targets(example) for example in ordered)


def _told(step: int, total: int) -> bool:
    return step in (1, total) or step % ceil(total / METRIC_LINES) == 0


class _Clock:
    """Speed of this process, since its first step began."""

    def __init__(self, progress: Progress) -> None:
        self._start = time.monotonic()
        self._from = progress

    def tokens_per_second(self, tokens: int) -> float:
        return (tokens - self._from.tokens) / self._elapsed()

    def eta(self, step: int, total: int) -> float:
        return (total - step) * self._elapsed() / (step - self._from.step)

    def _elapsed(self) -> float:
        return max(time.monotonic() - self._start, 1e-9)


class _Saver:
    """Writes checkpoints; when, never changes a number."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._saved = 0
        self._since = time.monotonic()
        self._took = 0.0

    def keep(self, progress: Progress) -> None:
        """A checkpoint that is a model of its own."""
        if progress.step:
            self._write(progress, self._run.write_model)

    def guard(self, progress: Progress, now: bool) -> None:
        """A checkpoint to resume from, where the last one is too long ago."""
        patience = max(self._run.save_seconds, self._took / SAVING_SHARE)
        if self._saved != progress.step and (now or time.monotonic() - self._since > patience):
            self._write(progress, None)

    def _write(self, progress: Progress, write_model: Callable[[Path], None] | None) -> None:
        run, start = self._run, time.monotonic()
        path = checkpoint.write(run.folder, progress, run.trained, run.optimizer, write_model)
        self._saved, self._since = progress.step, time.monotonic()
        self._took = self._since - start
        told = str(path.relative_to(run.folder))
        run.emit(Checkpoint(step=progress.step, path=told, keep=write_model is not None, metrics=progress.metrics))

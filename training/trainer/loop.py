"""The training loop: read ``train`` from top to bottom."""

from __future__ import annotations

import time
from math import ceil, isfinite

from training.errors import Interrupted, TrainingError
from training.run_events import Metrics
from training.trainer import checkpoint, optim, schedule
from training.trainer.checkpoint import Progress
from training.trainer.evaluate import before, evaluate
from training.trainer.gradients import Measured, gradients
from training.trainer.saver import Saver, judged
from training.trainer.state import Run

METRIC_LINES = 1000
"""About as many steps of a run are told; which ones, their numbers decide, so that a resumed run tells the same."""


def train(run: Run, progress: Progress) -> Progress:
    """From ``progress`` to the last step.

    Raises ``TrainingError`` (non_finite_loss) with the last finite weights saved, ``Interrupted`` when asked to stop.
    """
    clock, saver = _Clock(run, progress), Saver(run)
    run.learn()
    if progress.step == 0:
        progress = progress.model_copy(update={"before": before(run)})
    while progress.step < run.hyper.max_steps and not progress.ended:
        step = progress.step + 1
        rows = [run.rows.trained[row] for row in run.batches.rows(step)]
        rate = _rate(run, step)
        optim.set_rate(run.optimizer, rate)
        measured = gradients(run, rows, progress.parts or run.hyper.gradient_accumulation_steps, step)
        if not (isfinite(measured.loss) and isfinite(measured.norm)):
            saver.keep(progress)
            raise TrainingError("non_finite_loss", f"The loss or its gradient is not finite at step {step}.")
        run.optimizer.step()
        run.optimizer.zero_grad(set_to_none=True)

        progress = progress.model_copy(
            update={
                "step": step,
                "tokens": progress.tokens + sum(row.size for row in rows),
                "rng_sha256": checkpoint.rng_sha256(),
                "seconds": clock.seconds(),
                "parts": measured.parts if measured.parts != run.hyper.gradient_accumulation_steps else None,
            }
        )
        over = step == run.hyper.max_steps or progress.seconds >= (run.hyper.max_seconds or float("inf"))
        looking = bool(run.rows.validation or run.rows.held_out) and (over or step % run.hyper.eval_every == 0)
        if looking or over or _told(step, run.hyper.max_steps):
            metrics = _metrics(run, progress, measured, rate, clock, looking)
            run.emit(metrics)
            progress = judged(run, progress, metrics)
        progress = progress.model_copy(update={"ended": progress.ended or (over and step < run.hyper.max_steps)})
        if step % run.hyper.save_every == 0:
            saver.keep(progress)
        leaving = run.stop.requested and not (over or progress.ended)
        saver.guard(progress, now=leaving)
        if leaving:
            raise Interrupted(step)
    return progress


def _rate(run: Run, step: int) -> float:
    hyper = run.hyper
    return schedule.rate(step, hyper.max_steps, hyper.learning_rate, hyper.lr_scheduler, hyper.warmup_ratio)


def _told(step: int, total: int) -> bool:
    return step in (1, total) or step % ceil(total / METRIC_LINES) == 0


def _metrics(run: Run, progress: Progress, measured: Measured, rate: float, clock: _Clock, looking: bool) -> Metrics:
    valid = evaluate(run, run.rows.validation) if looking and run.rows.validation else None
    general = evaluate(run, run.rows.held_out) if looking and run.rows.held_out else None
    return Metrics(
        step=progress.step,
        total_steps=run.hyper.max_steps,
        epoch=progress.step / run.batches.per_epoch,
        learning_rate=rate,
        train_loss=measured.loss,
        train_accuracy=measured.accuracy,
        grad_norm=measured.norm,
        valid_loss=valid.loss if valid else None,
        valid_accuracy=valid.accuracy if valid else None,
        general_loss=general.loss if general else None,
        measures=valid.measures if valid else {},
        tokens=progress.tokens,
        tokens_per_second=clock.tokens_per_second(progress),
        eta_seconds=clock.eta(progress),
    )


class _Clock:
    """Speed of this process, since its first step began."""

    def __init__(self, run: Run, progress: Progress) -> None:
        self._total = run.hyper.max_steps
        self._start = time.monotonic()
        self._from = progress

    def seconds(self) -> float:
        """Of training, in all attempts whose work was kept."""
        return self._from.seconds + self._elapsed()

    def tokens_per_second(self, progress: Progress) -> float:
        return (progress.tokens - self._from.tokens) / self._elapsed()

    def eta(self, progress: Progress) -> float:
        return (self._total - progress.step) * self._elapsed() / (progress.step - self._from.step)

    def _elapsed(self) -> float:
        return max(time.monotonic() - self._start, 1e-9)

"""The training loop. ``train`` shows all of a step from top to bottom."""

from __future__ import annotations

import time
from math import ceil, isfinite

from training.errors import Interrupted, TrainingError
from training.run_events import Metrics
from training.trainer import checkpoint, optim, schedule
from training.trainer.checkpoint import Progress
from training.trainer.evaluate import evaluate, evaluate_untrained
from training.trainer.gradients import BatchMetrics, compute_gradients
from training.trainer.saver import Saver, update_early_stopping
from training.trainer.state import TrainingRun

METRIC_EVENTS_PER_RUN = 1000
"""Approximate number of steps that report metrics. The step number alone decides which ones, so a
resumed run reports the same steps."""


def train(run: TrainingRun, progress: Progress) -> Progress:
    """Train from ``progress`` to the last step and return the final progress.

    Raises ``TrainingError`` (non_finite_loss) after saving the last finite weights, and
    ``Interrupted`` if the stop flag is set.
    """
    timer, saver = _ThroughputTimer(run, progress), Saver(run)
    run.train_mode()
    if progress.checkpointing:
        run.enable_checkpointing()
    if progress.step == 0:
        progress = progress.model_copy(update={"before": evaluate_untrained(run)})
    while progress.step < run.hyper.max_steps and not progress.ended:
        step = progress.step + 1
        examples = [run.splits.training_pool[row] for row in run.batch_sampler.get_batch(step)]
        learning_rate = _compute_learning_rate(run, step)
        optim.set_learning_rate(run.optimizer, learning_rate)
        batch = compute_gradients(run, examples, progress.parts or run.hyper.gradient_accumulation_steps, step)
        if not (isfinite(batch.loss) and isfinite(batch.grad_norm)):
            saver.save_model(progress)
            raise TrainingError("non_finite_loss", f"The loss or its gradient is not finite at step {step}.")
        run.optimizer.step()
        run.optimizer.zero_grad(set_to_none=True)

        progress = progress.model_copy(
            update={
                "step": step,
                "tokens": progress.tokens + sum(example.size for example in examples),
                "rng_sha256": checkpoint.hash_rng_state(),
                "seconds": timer.measure_training_seconds(),
                "parts": batch.micro_batches if batch.micro_batches != run.hyper.gradient_accumulation_steps else None,
                "checkpointing": run.checkpointing and not run.hyper.gradient_checkpointing,
            }
        )
        is_last = step == run.hyper.max_steps or progress.seconds >= (run.hyper.max_seconds or float("inf"))
        has_eval_rows = bool(run.splits.validation or run.splits.held_out)
        should_evaluate = has_eval_rows and (is_last or step % run.hyper.eval_every == 0)
        if should_evaluate or is_last or _is_logging_step(step, run.hyper.max_steps):
            metrics = _collect_metrics(run, progress, batch, learning_rate, timer, should_evaluate)
            run.emit(metrics)
            progress = update_early_stopping(run, progress, metrics)
        progress = progress.model_copy(update={"ended": progress.ended or (is_last and step < run.hyper.max_steps)})
        if step % run.hyper.save_every == 0:
            saver.save_model(progress)
        should_stop = run.stop.requested and not (is_last or progress.ended)
        saver.save_if_due(progress, force=should_stop)
        if should_stop:
            raise Interrupted(step)
    return progress


def _compute_learning_rate(run: TrainingRun, step: int) -> float:
    hyper = run.hyper
    return schedule.compute_learning_rate(
        step, hyper.max_steps, hyper.learning_rate, hyper.lr_scheduler, hyper.warmup_ratio
    )


def _is_logging_step(step: int, total_steps: int) -> bool:
    return step in (1, total_steps) or step % ceil(total_steps / METRIC_EVENTS_PER_RUN) == 0


def _collect_metrics(
    run: TrainingRun,
    progress: Progress,
    batch_metrics: BatchMetrics,
    learning_rate: float,
    timer: _ThroughputTimer,
    should_evaluate: bool,
) -> Metrics:
    valid = evaluate(run, run.splits.validation) if should_evaluate and run.splits.validation else None
    general = evaluate(run, run.splits.held_out) if should_evaluate and run.splits.held_out else None
    return Metrics(
        step=progress.step,
        total_steps=run.hyper.max_steps,
        epoch=progress.step / run.batch_sampler.steps_per_epoch,
        learning_rate=learning_rate,
        train_loss=batch_metrics.loss,
        train_accuracy=batch_metrics.accuracy,
        grad_norm=batch_metrics.grad_norm,
        valid_loss=valid.loss if valid else None,
        valid_accuracy=valid.accuracy if valid else None,
        general_loss=general.loss if general else None,
        measures=valid.metrics if valid else {},
        tokens=progress.tokens,
        tokens_per_second=timer.compute_throughput(progress),
        eta_seconds=timer.estimate_remaining_seconds(progress),
    )


class _ThroughputTimer:
    """Throughput of this process since its first step."""

    def __init__(self, run: TrainingRun, progress: Progress) -> None:
        self._total_steps = run.hyper.max_steps
        self._started_at = time.monotonic()
        self._initial_progress = progress

    def measure_training_seconds(self) -> float:
        """Return the training seconds of all attempts whose steps were saved, this one included."""
        return self._initial_progress.seconds + self._measure_elapsed()

    def compute_throughput(self, progress: Progress) -> float:
        return (progress.tokens - self._initial_progress.tokens) / self._measure_elapsed()

    def estimate_remaining_seconds(self, progress: Progress) -> float:
        return (
            (self._total_steps - progress.step)
            * self._measure_elapsed()
            / (progress.step - self._initial_progress.step)
        )

    def _measure_elapsed(self) -> float:
        return max(time.monotonic() - self._started_at, 1e-9)

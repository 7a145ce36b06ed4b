"""The training loop: ``train`` repeats a step, its evaluation and its checkpoint."""

from __future__ import annotations

import time
from math import ceil, isfinite

from training.errors import Interrupted, TrainingError
from training.run_events import Metrics
from training.trainer import checkpoint, optim, schedule
from training.trainer.checkpoint import Progress, UnreportedBatch
from training.trainer.evaluate import evaluate, evaluate_untrained
from training.trainer.finish import has_final_metrics
from training.trainer.gradients import compute_gradients
from training.trainer.saver import Saver, update_early_stopping
from training.trainer.state import TrainingRun

METRIC_EVENTS_PER_RUN = 1000
"""Approximate number of steps that report metrics. The step number alone decides which ones, so a
resumed run reports the same steps."""


def train(run: TrainingRun, progress: Progress) -> Progress:
    """Train from ``progress`` to the last step and return the final progress.

    Raises ``TrainingError`` (non_finite_loss) after saving the last finite weights, and
    ``Interrupted`` if the stop flag is set, after saving the last completed step. A stop between
    two micro-batches drops the step that was begun; one within an evaluation leaves the evaluation
    to the next attempt.
    """
    timer, saver = _ThroughputTimer(run, progress), Saver(run)
    run.train_mode()
    if progress.checkpointing:
        run.enable_checkpointing()
    if progress.step == 0:
        progress = progress.model_copy(update={"before": evaluate_untrained(run)})
    try:
        while progress.unreported or (progress.step < run.hyper.max_steps and not progress.ended):
            if not progress.unreported:
                progress = _take_step(run, progress, timer, saver)
            is_last = _is_last_step(run, progress)
            if progress.unreported:
                metrics = _collect_metrics(run, progress, progress.unreported, timer)
                run.emit(metrics)
                progress = update_early_stopping(run, progress.model_copy(update={"unreported": None}), metrics)
            ended = progress.ended or (is_last and progress.step < run.hyper.max_steps)
            progress = progress.model_copy(update={"ended": ended})
            if progress.step % run.hyper.save_every == 0:
                saver.save_model(progress)
            should_stop = run.stop.requested and not (is_last or progress.ended)
            # Final metrics may take long. A run that is stopped while they are computed is resumed
            # from here.
            computes_final_metrics = (is_last or progress.ended) and has_final_metrics(run)
            saver.save_if_due(progress, force=should_stop or computes_final_metrics)
            if should_stop:
                raise Interrupted(progress.step)
    except Interrupted:
        saver.save_if_due(progress, force=True)
        raise Interrupted(progress.step) from None
    return progress


def _take_step(run: TrainingRun, progress: Progress, timer: _ThroughputTimer, saver: Saver) -> Progress:
    """Take one optimizer step and return the progress after it."""
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
    is_reported = _should_evaluate(run, progress) or _is_last_step(run, progress)
    if not is_reported and not _is_logging_step(step, run.hyper.max_steps):
        return progress
    unreported = UnreportedBatch(
        learning_rate=learning_rate, loss=batch.loss, accuracy=batch.accuracy, grad_norm=batch.grad_norm
    )
    return progress.model_copy(update={"unreported": unreported})


def _is_last_step(run: TrainingRun, progress: Progress) -> bool:
    return progress.step == run.hyper.max_steps or progress.seconds >= (run.hyper.max_seconds or float("inf"))


def _should_evaluate(run: TrainingRun, progress: Progress) -> bool:
    has_eval_rows = bool(run.splits.validation or run.splits.held_out)
    return has_eval_rows and (_is_last_step(run, progress) or progress.step % run.hyper.eval_every == 0)


def _compute_learning_rate(run: TrainingRun, step: int) -> float:
    hyper = run.hyper
    return schedule.compute_learning_rate(
        step, hyper.max_steps, hyper.learning_rate, hyper.lr_scheduler, hyper.warmup_ratio
    )


def _is_logging_step(step: int, total_steps: int) -> bool:
    return step in (1, total_steps) or step % ceil(total_steps / METRIC_EVENTS_PER_RUN) == 0


def _collect_metrics(run: TrainingRun, progress: Progress, batch: UnreportedBatch, timer: _ThroughputTimer) -> Metrics:
    """Return the metrics of the last step, after an evaluation if one is due.

    Raises ``Interrupted`` if the stop flag is set while it evaluates.
    """
    should_evaluate = _should_evaluate(run, progress)
    valid = evaluate(run, run.splits.validation) if should_evaluate and run.splits.validation else None
    general = evaluate(run, run.splits.held_out) if should_evaluate and run.splits.held_out else None
    return Metrics(
        step=progress.step,
        total_steps=run.hyper.max_steps,
        epoch=progress.step / run.batch_sampler.steps_per_epoch,
        learning_rate=batch.learning_rate,
        train_loss=batch.loss,
        train_accuracy=batch.accuracy,
        grad_norm=batch.grad_norm,
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

    def compute_throughput(self, progress: Progress) -> float | None:
        """Return tokens per second, or None if this process has taken no step."""
        tokens = progress.tokens - self._initial_progress.tokens
        return tokens / self._measure_elapsed() if self._count_steps(progress) else None

    def estimate_remaining_seconds(self, progress: Progress) -> float | None:
        """Return the seconds left, or None if this process has taken no step."""
        steps = self._count_steps(progress)
        return (self._total_steps - progress.step) * self._measure_elapsed() / steps if steps else None

    def _count_steps(self, progress: Progress) -> int:
        return progress.step - self._initial_progress.step

    def _measure_elapsed(self) -> float:
        return max(time.monotonic() - self._started_at, 1e-9)

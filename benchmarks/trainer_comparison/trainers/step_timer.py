"""Timing of a ``transformers.Trainer``: the end, the token counts and the loss of each step."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from transformers import TrainerCallback

from benchmarks.trainer_comparison.config import Outcome, build_outcome
from benchmarks.trainer_comparison.rows import IGNORE_INDEX


class StepTimer(TrainerCallback):  # type: ignore[misc]
    """Callback that records step times in seconds from the start of the first step."""

    def __init__(self, max_first_step_seconds: float | None = None) -> None:
        self.step_ends: list[float] = []
        self.token_counts: list[tuple[int, int]] = []
        self.losses: list[torch.Tensor] = []
        self._max_first_step_seconds = max_first_step_seconds
        self._started_at: float | None = None

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._started_at = self._started_at or time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        assert self._started_at is not None
        self.step_ends.append(time.perf_counter() - self._started_at)
        if self._max_first_step_seconds is not None and self.step_ends[0] > self._max_first_step_seconds:
            control.should_training_stop = True

    def wrap_collator(self, collate: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """Return a collator that also counts the tokens and targets of each batch."""

        def count_and_collate(rows: Any) -> Any:
            batch = collate(rows)
            mask = batch.get("attention_mask")
            tokens = batch["input_ids"].numel() if mask is None else int(mask.sum())
            self.token_counts.append((tokens, int((batch["labels"] != IGNORE_INDEX).sum())))
            return batch

        return count_and_collate

    def to_outcome(self, settings: dict[str, Any], micro_batches: int = 1) -> Outcome:
        """Build the outcome of a run whose steps have this many micro-batches.

        The loss of a micro-batch is its share of the step's loss.
        """
        # In a run that stops early, the loader is ahead.
        slices = [slice(step * micro_batches, (step + 1) * micro_batches) for step in range(len(self.step_ends))]
        counts = [self.token_counts[micro] for micro in slices]
        return build_outcome(
            self.step_ends,
            [(sum(tokens for tokens, _ in step), sum(targets for _, targets in step)) for step in counts],
            [sum(map(float, self.losses[micro])) for micro in slices],
            settings,
        )


def add_loss_recording(trainer_class: type[Any], timer: StepTimer) -> type[Any]:
    """Return a subclass that records the loss of every micro-batch.

    The trainer's own log has means over several steps.
    """

    class LossRecordingTrainer(trainer_class):  # type: ignore[misc]
        def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
            loss = super().compute_loss(*args, **kwargs)
            timer.losses.append(loss.detach())
            return loss

    return LossRecordingTrainer

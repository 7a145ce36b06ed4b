"""A ``transformers.Trainer`` under a clock: when each step ended, what was in its batch, what its loss was."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from transformers import TrainerCallback

from benchmarks.trainer_comparison.config import Outcome, outcome
from benchmarks.trainer_comparison.rows import IGNORED


class Watch(TrainerCallback):  # type: ignore[misc]
    """Times are seconds from the first step's start."""

    def __init__(self, patience: float | None = None) -> None:
        self.ends: list[float] = []
        self.counts: list[tuple[int, int]] = []
        self.losses: list[torch.Tensor] = []
        self._patience = patience
        self._began: float | None = None

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._began = self._began or time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        assert self._began is not None
        self.ends.append(time.perf_counter() - self._began)
        if self._patience is not None and self.ends[0] > self._patience:
            control.should_training_stop = True

    def counting(self, collate: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """The collator, its batches counted."""

        def counted(rows: Any) -> Any:
            batch = collate(rows)
            mask = batch.get("attention_mask")
            tokens = batch["input_ids"].numel() if mask is None else int(mask.sum())
            self.counts.append((tokens, int((batch["labels"] != IGNORED).sum())))
            return batch

        return counted

    def outcome(self, settings: dict[str, Any]) -> Outcome:
        # The loader is a batch ahead of a run that is cut short.
        steps = len(self.ends)
        return outcome(self.ends, self.counts[:steps], [float(loss) for loss in self.losses], settings)


def watched(kind: type[Any], watch: Watch) -> type[Any]:
    """The trainer's class, its losses kept: its own log has means of several steps."""

    class Watched(kind):  # type: ignore[misc]
        def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
            loss = super().compute_loss(*args, **kwargs)
            watch.losses.append(loss.detach())
            return loss

    return Watched

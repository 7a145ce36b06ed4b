"""The terms on which all contestants train, and what each tells of its run."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path
from statistics import fmean
from typing import Any

from pydantic import BaseModel, ConfigDict

ADAPTER_FOLDER = "adapter"
"""Where in its folder a contestant of another house leaves what stock PEFT loads."""


class TrainerConfig(BaseModel):
    """What a contestant is told."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    base: Path
    rows: Path
    """JSONL of GSM8K's rows: ``question``, ``answer``."""
    folder: Path
    """The contestant's own."""
    epochs: int
    threads: int
    batch_size: int = 8
    learning_rate: float = 1e-3
    """Falls linearly to 0, without warmup."""
    seed: int = 0
    rank: int = 8
    alpha: int = 16
    settings: dict[str, Any] = {}
    """What is changed of the contestant's defaults beyond these terms."""
    max_steps: int = -1
    """Instead of the epochs; -1: the epochs."""
    patience: float | None = None
    """Seconds; a first step that takes longer is also the last."""


class Outcome(BaseModel):
    """What came of it. The first step warms up (allocations, kernels chosen) and is not timed."""

    seconds: float
    """From the end of the first step to the end of the last; of the first where it was the only one."""
    tokens: int
    """In that time, padding not counted."""
    first_step_seconds: float
    all_tokens: int
    """In all steps, padding not counted."""
    targets: int
    """In all steps: tokens that were learnt."""
    losses: list[float]
    """Of each step: mean over its targets, nats."""
    settings: dict[str, Any]
    """The contestant's own, as it ran."""
    peak_bytes: int = 0
    """Resident, of the whole process."""

    @property
    def tokens_per_second(self) -> float:
        """Tokens per second."""
        return self.tokens / self.seconds

    @property
    def final_loss(self) -> float:
        """Mean of the second half of the steps."""
        return fmean(self.losses[len(self.losses) // 2 :])


def build_outcome(
    step_ends: list[float], token_counts: list[tuple[int, int]], losses: list[float], settings: dict[str, Any]
) -> Outcome:
    """Of a run's clock and batches.

    ``ends``: seconds from the first step's start to each step's end. ``counts``: tokens and targets of each step.
    """
    timed = slice(1, None) if len(step_ends) > 1 else slice(None)
    return Outcome(
        seconds=step_ends[-1] - step_ends[0] if len(step_ends) > 1 else step_ends[0],
        tokens=sum(tokens for tokens, _ in token_counts[timed]),
        first_step_seconds=step_ends[0],
        all_tokens=sum(tokens for tokens, _ in token_counts),
        targets=sum(targets for _, targets in token_counts),
        losses=losses,
        settings=settings,
    )


def read_rows(path: Path, count: int | None = None) -> list[dict[str, str]]:
    """The first rows of a JSONL file, all of them where no count is given."""
    with path.open(encoding="utf-8") as file:
        return [json.loads(line) for line in islice(file, count)]


def to_prompt_completion(row: dict[str, str]) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """What is asked and what is to be learnt, as chat messages."""
    asked = [{"role": "user", "content": row["question"].strip()}]
    return asked, [{"role": "assistant", "content": row["answer"].strip()}]

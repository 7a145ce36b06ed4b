"""Configuration shared by all trainers, and the outcome of a run."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path
from statistics import fmean
from typing import Any

from pydantic import BaseModel, ConfigDict

ADAPTER_FOLDER = "adapter"
"""Folder in which TRL and HF ``Trainer`` save the adapter that PEFT loads."""


class TrainerConfig(BaseModel):
    """Configuration of one run."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    base: Path
    rows: Path
    """JSONL of GSM8K's rows: ``question``, ``answer``."""
    folder: Path
    """Folder of this run."""
    epochs: int
    threads: int
    batch_size: int = 8
    learning_rate: float = 1e-3
    """Peak learning rate. It decays linearly to 0, without warmup."""
    seed: int = 0
    rank: int = 8
    alpha: int = 16
    settings: dict[str, Any] = {}
    """Changes to the trainer's defaults beyond the fields above."""
    max_steps: int = -1
    """Step limit that replaces the epochs; -1 uses the epochs."""
    patience: float | None = None
    """Maximum seconds of the first step. A run whose first step takes longer stops after it."""


class Outcome(BaseModel):
    """Outcome of a run.

    The first step is a warm-up (allocations, choice of kernels) and is not timed.
    """

    seconds: float
    """Seconds from the end of the first step to the end of the last, or of the only step."""
    tokens: int
    """Tokens in that time, without padding."""
    first_step_seconds: float
    all_tokens: int
    """Tokens of all steps, without padding."""
    targets: int
    """Target tokens of all steps."""
    losses: list[float]
    """Loss of each step: mean over its targets, in nats."""
    settings: dict[str, Any]
    """The trainer's settings of this run."""
    peak_bytes: int = 0
    """Peak RSS of the process."""

    @property
    def tokens_per_second(self) -> float:
        """Training speed without padding."""
        return self.tokens / self.seconds

    @property
    def final_loss(self) -> float:
        """Mean loss of the second half of the steps."""
        return fmean(self.losses[len(self.losses) // 2 :])


def build_outcome(
    step_ends: list[float], token_counts: list[tuple[int, int]], losses: list[float], settings: dict[str, Any]
) -> Outcome:
    """Build an outcome from a run's step times and batches.

    ``step_ends`` are seconds from the start of the first step to the end of each step.
    ``token_counts`` are the tokens and targets of each step.
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
    """Read the first ``count`` rows of a JSONL file, by default all."""
    with path.open(encoding="utf-8") as file:
        return [json.loads(line) for line in islice(file, count)]


def to_prompt_completion(row: dict[str, str]) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """Convert a row to chat messages: the prompt, and the completion to train on."""
    prompt = [{"role": "user", "content": row["question"].strip()}]
    return prompt, [{"role": "assistant", "content": row["answer"].strip()}]

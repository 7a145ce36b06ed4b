"""Configuration shared by all trainers, a peer's settings, and the outcome of a run."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

ADAPTER_FOLDER = "adapter"
"""Folder in which TRL and HF ``Trainer`` save the adapter that PEFT loads."""

RETAINED_HEAP: dict[str, str] = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**31 - 1)}
"""Environment in which glibc keeps freed memory: what Luthier sets for itself with ``mallopt``."""
COMPILE_ENVIRONMENT: dict[str, str] = {
    "ACCELERATE_DYNAMO_USE_DYNAMIC": "1",
    "ACCELERATE_DYNAMO_USE_REGIONAL_COMPILATION": "1",
}
"""``accelerate`` compiles one block for all layers and all lengths. Otherwise each batch of another
length is compiled again, for minutes."""


class TrainerSettings(BaseModel):
    """Settings of a peer that change its speed or memory, but not its training."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    arguments: dict[str, Any] = {}
    """Fields of its ``TrainingArguments``."""
    weights_dtype: Literal["float32", "bfloat16"] = "float32"
    """Dtype of the frozen weights in memory. The adapter's weights are float32."""
    allocator: dict[str, str] = dict(RETAINED_HEAP)
    """Environment variables that choose and configure the allocator."""

    def merge(self, changes: TrainerSettings) -> TrainerSettings:
        """Return these settings with the fields that ``changes`` sets."""
        fields = {name: getattr(changes, name) for name in changes.model_fields_set}
        return self.model_copy(update=fields | {"arguments": self.arguments | changes.arguments})

    @property
    def environment(self) -> dict[str, str]:
        """Environment variables of the process."""
        return self.allocator | (COMPILE_ENVIRONMENT if self.arguments.get("torch_compile") else {})

    def describe(self, arguments: Any, names: Sequence[str]) -> dict[str, Any]:
        """Return the fields ``names`` of the trainer's arguments, and the other settings."""
        reported = {name: getattr(arguments, name) for name in names}
        return reported | {"weights_dtype": self.weights_dtype, "allocator": self.allocator}


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
    settings: TrainerSettings = TrainerSettings()
    """A peer's settings. Luthier has only the environment."""
    max_steps: int = -1
    """Step limit that replaces the epochs; -1 uses the epochs."""
    patience: float | None = None
    """Maximum seconds of the first step. A run whose first step takes longer stops after it."""
    limit_seconds: float | None = None
    """Maximum seconds of the process."""

    @property
    def arguments(self) -> dict[str, Any]:
        """``TrainingArguments`` of a peer: the shared configuration and the settings."""
        shared = {
            "output_dir": str(self.folder / "out"),
            "per_device_train_batch_size": self.batch_size,
            "num_train_epochs": self.epochs,
            "max_steps": self.max_steps,
            "learning_rate": self.learning_rate,
            "seed": self.seed,
            "report_to": "none",
            # Otherwise TRL rejects its default bf16 on a machine without a GPU.
            "use_cpu": True,
        }
        return shared | self.settings.arguments


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


def read_rows(path: Path, count: int | None = None, max_chars: int | None = None) -> list[dict[str, str]]:
    """Read the first ``count`` rows of a JSONL file, by default all.

    ``max_chars`` skips rows with more characters in question and answer.
    """
    with path.open(encoding="utf-8") as file:
        rows = map(json.loads, file)
        return list(islice((row for row in rows if max_chars is None or _count_chars(row) <= max_chars), count))


def write_rows(path: Path, rows: Sequence[Mapping[str, str]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def _count_chars(row: Mapping[str, str]) -> int:
    return len(row["question"]) + len(row["answer"])


def to_prompt_completion(row: dict[str, str]) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """Convert a row to chat messages: the prompt, and the completion to train on."""
    prompt = [{"role": "user", "content": row["question"].strip()}]
    return prompt, [{"role": "assistant", "content": row["answer"].strip()}]

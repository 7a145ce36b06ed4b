"""Checkpoints: ``checkpoints/step-N/state/`` resumes a run exactly, ``checkpoints/step-N/model/``
is a usable model.

Checkpoints hold safetensors and JSON only. A directory is written under a temporary name, flushed
to disk and renamed, so it is either complete or absent. RNG state is not saved: ``seed_step`` seeds
every step separately.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from pydantic import BaseModel, ConfigDict
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import Parameter

from training.models import weights
from training.run_events import Metrics
from training.trainer import optim

STATE_DIR, MODEL_DIR = "state", "model"
_WEIGHTS_FILE, _OPTIMIZER_FILE, _PROGRESS_FILE = "weights.safetensors", "optimizer.safetensors", "progress.json"
BEST_WEIGHTS_FILE = "best.safetensors"
"""Weights of the best evaluation so far. The file is in the run's folder, from which the run loads
it, and in ``state``."""


class BestEvaluation(BaseModel):
    """The evaluation with the lowest loss so far."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    metrics: Metrics
    stale: int = 0
    """Evaluations since then without a lower loss."""


class UnreportedBatch(BaseModel):
    """Metrics of a step whose evaluation was interrupted. The next attempt evaluates first."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    learning_rate: float
    loss: float
    accuracy: float | None
    grad_norm: float


class Progress(BaseModel):
    """Progress of a run after its last completed step."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    step: int = 0
    """Optimizer steps completed."""
    tokens: int = 0
    """Input tokens trained on."""
    metrics: Metrics | None = None
    """Metrics of the last step that reported them."""
    rng_sha256: str = ""
    """Hash of the RNG state after the last step."""
    seconds: float = 0.0
    """Training time, seconds."""
    parts: int | None = None
    """Micro-batches per batch since the device ran out of memory. None: use
    ``gradient_accumulation_steps``."""
    checkpointing: bool = False
    """True if activations are recomputed since the device ran out of memory with one row."""
    best: BestEvaluation | None = None
    unreported: UnreportedBatch | None = None
    """Metrics of the last step, until they are reported."""
    before: dict[str, float] = {}
    """Losses of the untrained model, by metric name."""
    ended: bool = False
    """True if the run ended before its last step: it reached its time limit or stopped early."""


class TrainingState(NamedTuple):
    """Tensors, optimizer and folder of a run. With ``Progress``, all that a run needs to resume."""

    folder: Path
    """The run's folder."""
    tensors: dict[str, Tensor]
    """Every tensor of the model that training changes."""
    trainable_parameters: dict[str, Parameter]
    optimizer: torch.optim.Optimizer


def save(state: TrainingState, progress: Progress, write_model: Callable[[Path], None] | None) -> Path:
    """Write a checkpoint and return its directory.

    If ``write_model`` is None, the checkpoint can be resumed from but has no model directory.
    """
    final = state.folder / "checkpoints" / f"step-{progress.step}"
    staging = final.with_name(f".{final.name}")
    for directory in (staging, final):
        shutil.rmtree(directory, ignore_errors=True)
    (staging / STATE_DIR).mkdir(parents=True)
    save_weights(state.tensors, staging / STATE_DIR / _WEIGHTS_FILE)
    save_file(optim.flatten_state(state.optimizer, state.trainable_parameters), staging / STATE_DIR / _OPTIMIZER_FILE)
    if (state.folder / BEST_WEIGHTS_FILE).exists():
        shutil.copyfile(state.folder / BEST_WEIGHTS_FILE, staging / STATE_DIR / BEST_WEIGHTS_FILE)
    (staging / STATE_DIR / _PROGRESS_FILE).write_text(progress.model_dump_json(indent=2))
    if write_model:
        (staging / MODEL_DIR).mkdir()
        write_model(staging / MODEL_DIR)
    commit_directory(staging, final)
    return final


def save_weights(tensors: dict[str, Tensor], path: Path) -> None:
    save_file({name: tensor.detach().contiguous() for name, tensor in tensors.items()}, path)


def commit_directory(staging: Path, final: Path) -> None:
    """Flush a directory to disk, then rename it to ``final``."""
    for path in [*staging.rglob("*"), staging]:
        _fsync(path)
    staging.rename(final)
    _fsync(final.parent)


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def load(directory: Path, state: TrainingState) -> Progress:
    """Restore weights and optimizer state from a checkpoint and return its progress."""
    weights.copy_tensors(state.tensors, load_file(directory / STATE_DIR / _WEIGHTS_FILE))
    optim.load_state(state.optimizer, state.trainable_parameters, load_file(directory / STATE_DIR / _OPTIMIZER_FILE))
    if (directory / STATE_DIR / BEST_WEIGHTS_FILE).exists():
        shutil.copyfile(directory / STATE_DIR / BEST_WEIGHTS_FILE, state.folder / BEST_WEIGHTS_FILE)
    return Progress.model_validate_json((directory / STATE_DIR / _PROGRESS_FILE).read_bytes())


def seed_step(seed: int, step: int) -> None:
    """Seed the RNG for a step, so that its draws (dropout) do not depend on earlier steps.

    Step 0 is the creation of the model.
    """
    digest = hashlib.sha256(f"{seed}/{step}".encode()).digest()
    torch.manual_seed(int.from_bytes(digest[:8], "little") >> 1)


def hash_rng_state() -> str:
    digest = hashlib.sha256(torch.get_rng_state().numpy().tobytes())
    if torch.cuda.is_available():
        digest.update(torch.cuda.get_rng_state().numpy().tobytes())
    return digest.hexdigest()

"""Checkpoints: ``checkpoints/step-N/state/`` to resume exactly, ``checkpoints/step-N/model/`` to use.

safetensors and JSON only. A directory is written aside, flushed to disk and renamed: it is whole or not there.
Randomness needs no saving: every step seeds its own (``seed_step``).
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
"""In the run's folder and in ``state``: the weights of the best evaluation so far, where the run looks for them."""


class BestEvaluation(BaseModel):
    """The evaluation with the lowest loss so far."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    metrics: Metrics
    stale: int = 0
    """Evaluations since."""


class Progress(BaseModel):
    """Where a run stands."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    step: int = 0
    """Steps done."""
    tokens: int = 0
    """Input tokens trained on."""
    metrics: Metrics | None = None
    """Of the last step that was told."""
    rng_sha256: str = ""
    """Of the generators' state after the last step."""
    seconds: float = 0.0
    """Of training."""
    parts: int | None = None
    """Into how many a batch is split since memory ran out; None: as the hyperparameters say."""
    best: BestEvaluation | None = None
    before: dict[str, float] = {}
    """What was measured before the first step."""
    ended: bool = False
    """Whether the run ended before its last step: its time was up, or it no longer learnt."""


class TrainingState(NamedTuple):
    """What a run resumes from, beside its progress."""

    folder: Path
    """The run's."""
    tensors: dict[str, Tensor]
    """Everything of the model that training moves."""
    trainable_parameters: dict[str, Parameter]
    optimizer: torch.optim.Optimizer


def save(state: TrainingState, progress: Progress, write_model: Callable[[Path], None] | None) -> Path:
    """The checkpoint's directory. ``write_model`` None: only to resume from."""
    final = state.folder / "checkpoints" / f"step-{progress.step}"
    aside = final.with_name(f".{final.name}")
    for stale in (aside, final):
        shutil.rmtree(stale, ignore_errors=True)
    (aside / STATE_DIR).mkdir(parents=True)
    save_weights(state.tensors, aside / STATE_DIR / _WEIGHTS_FILE)
    save_file(optim.flatten_state(state.optimizer, state.trainable_parameters), aside / STATE_DIR / _OPTIMIZER_FILE)
    if (state.folder / BEST_WEIGHTS_FILE).exists():
        shutil.copyfile(state.folder / BEST_WEIGHTS_FILE, aside / STATE_DIR / BEST_WEIGHTS_FILE)
    (aside / STATE_DIR / _PROGRESS_FILE).write_text(progress.model_dump_json(indent=2))
    if write_model:
        (aside / MODEL_DIR).mkdir()
        write_model(aside / MODEL_DIR)
    commit_directory(aside, final)
    return final


def save_weights(tensors: dict[str, Tensor], path: Path) -> None:
    save_file({name: tensor.detach().contiguous() for name, tensor in tensors.items()}, path)


def commit_directory(staging: Path, final: Path) -> None:
    """Rename a directory once all of it is on disk."""
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
    """Put weights and optimizer where they were."""
    weights.copy_tensors(state.tensors, load_file(directory / STATE_DIR / _WEIGHTS_FILE))
    optim.load_state(state.optimizer, state.trainable_parameters, load_file(directory / STATE_DIR / _OPTIMIZER_FILE))
    if (directory / STATE_DIR / BEST_WEIGHTS_FILE).exists():
        shutil.copyfile(directory / STATE_DIR / BEST_WEIGHTS_FILE, state.folder / BEST_WEIGHTS_FILE)
    return Progress.model_validate_json((directory / STATE_DIR / _PROGRESS_FILE).read_bytes())


def seed_step(seed: int, step: int) -> None:
    """Step 0 is the model's making. What a step draws (dropout) depends on nothing that came before it."""
    digest = hashlib.sha256(f"{seed}/{step}".encode()).digest()
    torch.manual_seed(int.from_bytes(digest[:8], "little") >> 1)


def hash_rng_state() -> str:
    digest = hashlib.sha256(torch.get_rng_state().numpy().tobytes())
    if torch.cuda.is_available():
        digest.update(torch.cuda.get_rng_state().numpy().tobytes())
    return digest.hexdigest()

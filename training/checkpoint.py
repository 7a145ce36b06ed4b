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

import torch
from pydantic import BaseModel, ConfigDict
from safetensors.torch import load_file, save_file
from torch.nn import Parameter

from training import optim, weights
from training.report import Metrics

STATE, MODEL = "state", "model"
_WEIGHTS, _OPTIMIZER, _PROGRESS = "weights.safetensors", "optimizer.safetensors", "progress.json"


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


def write(
    folder: Path,
    progress: Progress,
    trained: dict[str, Parameter],
    optimizer: torch.optim.Optimizer,
    write_model: Callable[[Path], None] | None,
) -> Path:
    """The checkpoint's directory. ``write_model`` None: only to resume from."""
    final = folder / "checkpoints" / f"step-{progress.step}"
    aside = final.with_name(f".{final.name}")
    for stale in (aside, final):
        shutil.rmtree(stale, ignore_errors=True)
    (aside / STATE).mkdir(parents=True)
    save_file({name: weight.detach().contiguous() for name, weight in trained.items()}, aside / STATE / _WEIGHTS)
    save_file(optim.state_tensors(optimizer, trained), aside / STATE / _OPTIMIZER)
    (aside / STATE / _PROGRESS).write_text(progress.model_dump_json(indent=2))
    if write_model:
        (aside / MODEL).mkdir()
        write_model(aside / MODEL)
    publish(aside, final)
    return final


def publish(aside: Path, final: Path) -> None:
    """Rename a directory once all of it is on disk."""
    for path in [*aside.rglob("*"), aside]:
        _flush(path)
    aside.rename(final)
    _flush(final.parent)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read(directory: Path, trained: dict[str, Parameter], optimizer: torch.optim.Optimizer) -> Progress:
    """Put weights and optimizer where they were."""
    weights.fill(trained, load_file(directory / STATE / _WEIGHTS))
    optim.load_state(optimizer, trained, load_file(directory / STATE / _OPTIMIZER))
    return Progress.model_validate_json((directory / STATE / _PROGRESS).read_bytes())


def seed_step(seed: int, step: int) -> None:
    """Step 0 is the model's making. What a step draws (dropout) depends on nothing that came before it."""
    digest = hashlib.sha256(f"{seed}/{step}".encode()).digest()
    torch.manual_seed(int.from_bytes(digest[:8], "little") >> 1)


def rng_sha256() -> str:
    digest = hashlib.sha256(torch.get_rng_state().numpy().tobytes())
    if torch.cuda.is_available():
        digest.update(torch.cuda.get_rng_state().numpy().tobytes())
    return digest.hexdigest()

"""The end of a run: ``result/`` and the line that says what it is."""

from __future__ import annotations

import shutil

import torch

from training.models import weights
from training.run_events import Metrics, Result
from training.trainer import checkpoint
from training.trainer.checkpoint import Progress
from training.trainer.saver import take_best
from training.trainer.state import Run


def finish(run: Run, progress: Progress) -> Result:
    """Write ``result/`` and say what it is."""
    aside, final = run.folder / ".result", run.folder / "result"
    for stale in (aside, final):
        shutil.rmtree(stale, ignore_errors=True)
    aside.mkdir()
    proof = {
        "step": progress.step,
        "params_sha256": weights.sha256(run.state.tensors),
        "rng_sha256": progress.rng_sha256,
        "batch_sha256": run.batches.sha256(progress.step),
    }
    metrics = take_best(run, progress)
    run.write(aside)
    checkpoint.publish(aside, final)
    return Result(
        path="result",
        step=metrics.step,
        trained_tokens=progress.tokens,
        metrics=_figures(run, progress, metrics),
        resume_proof=proof,
    )


def _figures(run: Run, progress: Progress, metrics: Metrics) -> dict[str, float | None]:
    names = ("train_loss", "train_accuracy", "valid_loss", "valid_accuracy", "general_loss")
    told = {name: getattr(metrics, name) for name in names}
    told |= {f"valid_{name}": value for name, value in (metrics.measures | _examined(run)).items()}
    return {name: value for name, value in (told | progress.before).items() if value is not None}


def _examined(run: Run) -> dict[str, float]:
    if not run.rows.validation:
        return {}
    with run.whole(), torch.inference_mode(), run.place.autocast():
        return run.task.examine(run.model, run.rows.validation, run.plain)

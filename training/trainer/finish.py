"""The end of a run: ``result/`` and the line that says what it is."""

from __future__ import annotations

import shutil

import torch

from training.models import weights
from training.run_events import Metrics, Result
from training.trainer import checkpoint
from training.trainer.checkpoint import Progress
from training.trainer.saver import load_best
from training.trainer.state import TrainingRun


def write_result(run: TrainingRun, progress: Progress) -> Result:
    """Write ``result/`` and say what it is."""
    aside, final = run.folder / ".result", run.folder / "result"
    for stale in (aside, final):
        shutil.rmtree(stale, ignore_errors=True)
    aside.mkdir()
    proof = {
        "step": progress.step,
        "params_sha256": weights.hash_tensors(run.state.tensors),
        "rng_sha256": progress.rng_sha256,
        "batch_sha256": run.batch_sampler.hash_batch(progress.step),
    }
    metrics = load_best(run, progress)
    run.write_model(aside)
    checkpoint.commit_directory(aside, final)
    return Result(
        path="result",
        step=metrics.step,
        trained_tokens=progress.tokens,
        metrics=_collect_metrics(run, progress, metrics),
        resume_proof=proof,
    )


def _collect_metrics(run: TrainingRun, progress: Progress, metrics: Metrics) -> dict[str, float | None]:
    names = ("train_loss", "train_accuracy", "valid_loss", "valid_accuracy", "general_loss")
    told = {name: getattr(metrics, name) for name in names}
    told |= {f"valid_{name}": value for name, value in (metrics.measures | _compute_final_metrics(run)).items()}
    return {name: value for name, value in (told | progress.before).items() if value is not None}


def _compute_final_metrics(run: TrainingRun) -> dict[str, float]:
    if not run.splits.validation:
        return {}
    with run.full_eval_mode(), torch.inference_mode(), run.device.autocast():
        return run.task.final_metrics(run.model, run.splits.validation, run.eval_context)

"""Writing of the result directory and its event at the end of a run."""

from __future__ import annotations

import shutil

import torch

from training.errors import Interrupted
from training.models import weights
from training.run_events import Metrics, Result
from training.tasks.base import Task
from training.trainer import checkpoint
from training.trainer.checkpoint import Progress
from training.trainer.saver import load_best
from training.trainer.state import TrainingRun


def write_result(run: TrainingRun, progress: Progress) -> Result:
    """Write ``result/`` and return the event that describes it.

    Raises ``Interrupted`` if the stop flag is set while final metrics are computed.
    """
    staging, final = run.folder / ".result", run.folder / "result"
    for directory in (staging, final):
        shutil.rmtree(directory, ignore_errors=True)
    staging.mkdir()
    proof = {
        "step": progress.step,
        "params_sha256": weights.hash_tensors(run.state.tensors),
        "rng_sha256": progress.rng_sha256,
        "batch_sha256": run.batch_sampler.hash_batch(progress.step),
    }
    metrics = load_best(run, progress)
    try:
        final_metrics = _collect_metrics(run, progress, metrics)
    except Interrupted:
        raise Interrupted(progress.step) from None
    run.reporter.report("saving", progress.step, run.hyper.max_steps, run.max_transfer_seconds)
    run.write_model(staging)
    checkpoint.commit_directory(staging, final)
    return Result(
        path="result",
        step=metrics.step,
        trained_tokens=progress.tokens,
        metrics=final_metrics,
        resume_proof=proof,
    )


def _collect_metrics(run: TrainingRun, progress: Progress, metrics: Metrics) -> dict[str, float | None]:
    names = ("train_loss", "train_accuracy", "valid_loss", "valid_accuracy", "general_loss")
    values = {name: getattr(metrics, name) for name in names}
    values |= {f"valid_{name}": value for name, value in (metrics.measures | _compute_final_metrics(run)).items()}
    return {name: value for name, value in (values | progress.before).items() if value is not None}


def has_final_metrics(run: TrainingRun) -> bool:
    """Return True if the task computes metrics after the last step, which may take long."""
    return bool(run.splits.validation) and type(run.task).final_metrics is not Task.final_metrics


def _compute_final_metrics(run: TrainingRun) -> dict[str, float]:
    if not has_final_metrics(run):
        return {}
    with run.full_eval_mode(), torch.inference_mode(), run.device.autocast():
        return run.task.final_metrics(run.model, run.splits.validation, run.eval_context, run.bind_report("evaluating"))

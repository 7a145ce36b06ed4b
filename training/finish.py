"""The end of a run: ``result/`` and the line that says what it is."""

from __future__ import annotations

import shutil

from training import checkpoint, weights
from training.checkpoint import Progress
from training.loop import Run
from training.report import Result


def finish(run: Run, progress: Progress) -> Result:
    """Write ``result/`` and say what it is."""
    aside, final = run.folder / ".result", run.folder / "result"
    for stale in (aside, final):
        shutil.rmtree(stale, ignore_errors=True)
    aside.mkdir()
    run.write_model(aside)
    checkpoint.publish(aside, final)
    metrics = progress.metrics
    assert metrics, "a run has at least one step, and its last is told"
    names = ("train_loss", "train_accuracy", "valid_loss", "valid_accuracy")
    return Result(
        path="result",
        step=progress.step,
        trained_tokens=progress.tokens,
        metrics={name: getattr(metrics, name) for name in names},
        resume_proof={
            "step": progress.step,
            "params_sha256": weights.sha256(run.trained),
            "rng_sha256": progress.rng_sha256,
            "batch_sha256": run.batches.sha256(progress.step),
        },
    )

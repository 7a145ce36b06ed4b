"""Fields of a request that creates a job."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypedDict


class JobFields(TypedDict, total=False):
    """Fields of ``POST /v1/fine_tuning/jobs``.

    The server chooses values for missing fields and reports them on the job. A file is either a
    file id or a ``pathlib.Path``, which the client uploads first.
    """

    model: str
    """Base model, or a fine-tuned model or checkpoint to continue from."""
    training_file: str | Path
    """Rows to train on."""
    validation_file: str | Path | None
    """Rows for validation metrics; not trained on."""
    general_file: str | Path | None
    """Rows of tasks that the base model is good at.

    Some are mixed into training; the others measure forgetting.
    """
    task: str | None
    """Task to train. Default: the base model's first task."""
    update: dict[str, Any] | None
    """Parameters to train: ``{"type": "lora", "rank": 16}``, ``{"type": "full"}``, ``head`` or
    ``layers``.
    """
    columns: dict[str, str] | None
    """Map from field of the task's rows to column or key of the file."""
    method: dict[str, Any] | None
    """Training method: ``{"type": "supervised", "supervised": {"hyperparameters": {…}}}``, or
    ``dpo``.
    """
    hyperparameters: dict[str, Any] | None
    """Short form for the hyperparameters of the method ``supervised``."""
    suffix: str | None
    """Part of the fine-tuned model's name."""
    seed: int | None
    """Seed of the run. The same seed, data and machine give the same model."""
    metadata: dict[str, str] | None
    """Your own key-value pairs. ``jobs.list`` can filter by them."""
    integrations: list[dict[str, Any]] | None
    """Services that receive the metrics: ``{"type": "mlflow", "mlflow": {"experiment": "…"}}``, or
    ``wandb``.
    """
    auto_start: bool
    """False validates the rows and then waits for ``start``."""
    from_checkpoint: str | None
    """Checkpoint to continue from, as ``{job or model}[:step]``, instead of ``model``."""
    checkpoint_ttl_seconds: int | None
    """Seconds until checkpoints are deleted."""

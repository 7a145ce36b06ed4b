"""What can be said when a job is made."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypedDict


class JobFields(TypedDict, total=False):
    """Fields of ``POST /v1/fine_tuning/jobs``. What is left out is chosen by the server, and told on the job.

    A file is the id of one, or a ``pathlib.Path``, which is uploaded first.
    """

    model: str
    """A base model, or a fine-tuned model or checkpoint to go on from."""
    training_file: str | Path
    """The rows to learn from."""
    validation_file: str | Path | None
    """Rows to measure on; never learned."""
    general_file: str | Path | None
    """Rows that the base is good at: some are mixed in, and what is forgotten of the others is told."""
    task: str | None
    """What is learned; the base model's first task where absent."""
    update: dict[str, Any] | None
    """Which parameters change: ``{"type": "lora", "rank": 16}``, ``{"type": "full"}``, ``head``, ``layers``."""
    columns: dict[str, str] | None
    """Field of the task's rows -> column or key of the file."""
    method: dict[str, Any] | None
    """``{"type": "supervised", "supervised": {"hyperparameters": {…}}}``, or the same with ``dpo``."""
    hyperparameters: dict[str, Any] | None
    """Short for those of the method ``supervised``."""
    suffix: str | None
    """Becomes part of the model's name."""
    seed: int | None
    """The same seed, data and machine give the same model."""
    metadata: dict[str, str] | None
    """Yours to find the job by."""
    integrations: list[dict[str, Any]] | None
    """Where else the measurements go: ``{"type": "mlflow", "mlflow": {"experiment": "…"}}``, or ``wandb``."""
    auto_start: bool
    """False: validate the rows, then wait for ``start``."""
    from_checkpoint: str | None
    """``{job or model}[:step]`` to go on from, instead of ``model``."""
    checkpoint_ttl_seconds: int | None
    """How long checkpoints are kept."""

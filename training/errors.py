"""Errors of a training run. No torch.

ValueError
└── TrainingError          ends the run `failed` with a code of RUN_CODES
    └── InvalidDataset     invalid rows of a file, each with its line
Interrupted                the run stopped after SIGTERM; not a failure
"""

from __future__ import annotations

from collections.abc import Sequence

from training.run_reports import DatasetError

RUN_CODES: dict[str, str] = {
    "invalid_dataset": "Fix the lines listed in the job's events and upload the file again.",
    "too_few_rows": "Add rows: training needs at least one, and results with fewer than ten are unreliable.",
    "base_model_unavailable": "Choose another base model, or ask the operator to run `luthierd models pull`.",
    "missing_extra": "Ask the operator to install the package, or choose settings that do not need it.",
    "out_of_memory": "Lower max_length, choose lora or a smaller base model, or use a worker with more memory. For an "
    "embedding model, lower batch_size.",
    "non_finite_loss": "Lower learning_rate or learning_rate_multiplier, and check the rows of the preceding steps.",
    "stalled": "Create the job again. If it stalls again, ask the operator for the worker's log.",
    "crash_loop": "The run crashed repeatedly between two checkpoints; ask the operator for the worker's log.",
    "disk_full": "Ask the operator to free disk space, then create the job again.",
    "storage_unavailable": "The object store did not respond; create the job again later.",
    "parity_failed": "The engine cannot serve the result; report this with the job's id.",
    "internal_error": "Report this with the job's id.",
}
"""Error code of a failed job -> advice to the user."""


class TrainingError(ValueError):
    """Error that ends the run, because another attempt would fail the same way."""

    def __init__(self, code: str, message: str, param: str | None = None) -> None:
        assert code in RUN_CODES, code
        super().__init__(message)
        self.code = code
        self.message = message
        self.param = param


class InvalidDataset(TrainingError):
    """Rows that cannot be trained on. ``errors`` holds the first of ``count``."""

    def __init__(self, errors: Sequence[DatasetError], count: int) -> None:
        first = errors[0]
        location = f"{first.file}, line {first.line}" if first.line else first.file
        field = f", {first.field}" if first.field else ""
        more = f" ({count - 1} more)" if count > 1 else ""
        super().__init__("invalid_dataset", f"{location}{field}: {first.message}{more}", first.file)
        self.errors = list(errors)
        self.count = count


class Interrupted(Exception):
    """The run stopped on request after ``step`` steps."""

    def __init__(self, step: int) -> None:
        super().__init__(f"stopped after step {step}")
        self.step = step

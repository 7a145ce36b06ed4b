"""What can go wrong in a run. No torch.

ValueError
└── TrainingError          ends the run `failed` with a code of RUN_CODES
    └── InvalidDataset     a file's rows, each fault with its line
Interrupted                SIGTERM was heeded; not a failure
"""

from __future__ import annotations

from collections.abc import Sequence

from training.run_events import DatasetError

RUN_CODES: dict[str, str] = {
    "invalid_dataset": "Mend the lines named in the job's events and upload the file anew.",
    "too_few_rows": "Add rows: one is the least that can be trained on, ten or more can be trusted a little.",
    "base_model_unavailable": "Choose another base model, or have the operator run `luthierd models pull`.",
    "out_of_memory": "Lower batch_size or max_length, raise gradient_accumulation_steps, or take a smaller model.",
    "non_finite_loss": "Lower learning_rate or learning_rate_multiplier, and look at the rows of the steps before.",
    "stalled": "Post the job again; if it stalls again, ask the operator for the worker's log.",
    "crash_loop": "The run crashed repeatedly at the same place; ask the operator for the worker's log.",
    "disk_full": "Ask the operator to free disk space, then post the job again.",
    "storage_unavailable": "The object store did not answer; post the job again later.",
    "parity_failed": "The served model did not give the trainer's numbers; report this with the job's id.",
    "internal_error": "Report this with the job's id.",
}
"""Every code a job can end with, and what to do about it."""


class TrainingError(ValueError):
    """Ends the run; another attempt would meet it again."""

    def __init__(self, code: str, message: str, param: str | None = None) -> None:
        assert code in RUN_CODES, code
        super().__init__(message)
        self.code = code
        self.message = message
        self.param = param


class InvalidDataset(TrainingError):
    """Rows that cannot be trained on. ``faults`` are the first of ``count``."""

    def __init__(self, errors: Sequence[DatasetError], count: int) -> None:
        first = errors[0]
        place = f"{first.file}, line {first.line}" if first.line else first.file
        field = f", {first.field}" if first.field else ""
        more = f" ({count - 1} more)" if count > 1 else ""
        super().__init__("invalid_dataset", f"{place}{field}: {first.message}{more}", first.file)
        self.errors = list(errors)
        self.count = count


class Interrupted(Exception):
    """The run was asked to leave and did, having done ``step`` steps."""

    def __init__(self, step: int) -> None:
        super().__init__(f"stopped at step {step}")
        self.step = step

"""Events of a training process, printed as JSON lines and discriminated by ``type``.

The child process writes them with :func:`dump_event`; the worker reads them with
:func:`parse_event`. Numbers are finite or ``null``, so every line is valid JSON.
"""

from __future__ import annotations

import time
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from training.run_reports import DatasetError, FileReport, Plan, Problem, TokenSequence

Level = Literal["info", "warn", "error"]

PhaseName = Literal["encoding", "reference", "features", "training", "evaluating", "saving"]
"""Activity of a running process, which its job shows as ``phase``."""


class _BaseEvent(BaseModel):
    model_config = ConfigDict(extra="forbid", ser_json_inf_nan="null")


class Message(_BaseEvent):
    """Message to the user; it becomes a job event."""

    type: Literal["message"] = "message"
    level: Level = "info"
    message: str
    data: dict[str, Any] | None = None


class PhaseProgress(_BaseEvent):
    """Progress within a phase. Emitted only if work was done since the last one."""

    type: Literal["phase"] = "phase"
    phase: PhaseName
    done: float
    """Work done, in the phase's unit: bytes read, rows, or steps."""
    total: float
    max_silence_seconds: float = 0.0
    """Longest time that the phase may need until its next event. The worker waits that long if it
    exceeds ``stall_seconds``."""


class Validated(_BaseEvent):
    """Every row is valid, and every ``auto`` that model and data decide is resolved."""

    type: Literal["validated"] = "validated"
    rows: int
    examples: int
    """Sequences that the rows are trained as: more than ``rows`` if long rows are split."""
    validation_rows: int
    tokens: int
    """Tokens in one epoch of the training file, after truncation."""
    total_steps: int
    hyperparameters: dict[str, Any]
    """For the spec of the training phase. Those that depend on its device may be ``auto``."""


class Started(_BaseEvent):
    """The model is loaded and the first forward pass follows."""

    type: Literal["started"] = "started"
    at: float = Field(default_factory=time.time)
    """Unix time, seconds."""
    step: int
    """0, or the step from which the run resumes."""
    total_steps: int
    trainable_parameters: int
    total_parameters: int
    device: str
    dtype: str
    threads: int
    hyperparameters: dict[str, Any]
    """Resolved, without ``auto``. The spec of later attempts repeats them unchanged, so that a run
    resumed on another device computes the same."""


class Metrics(_BaseEvent):
    """Metrics of one optimizer step. ``valid_*`` are set on steps that evaluated."""

    type: Literal["metrics"] = "metrics"
    step: int
    total_steps: int
    epoch: float
    """Epochs completed, 0 to n_epochs."""
    learning_rate: float
    train_loss: float
    """Mean over the targets of the step's full batch, nats."""
    train_accuracy: float | None = None
    """Share of targets predicted correctly: tokens for generative tasks, rows for classifiers."""
    grad_norm: float | None = None
    """Global norm before clipping."""
    valid_loss: float | None = None
    valid_accuracy: float | None = None
    general_loss: float | None = None
    """Loss on general rows that are never trained on. The result also reports ``valid_loss`` and
    ``general_loss`` from before the first step."""
    measures: dict[str, float] = {}
    """The task's own metrics on the validation rows."""
    tokens: int
    """Input tokens trained on so far, without padding."""
    tokens_per_second: float | None = None
    eta_seconds: float | None = None


class Checkpoint(_BaseEvent):
    """A checkpoint directory is complete on disk (written under a temporary name, then renamed)."""

    type: Literal["checkpoint"] = "checkpoint"
    step: int
    path: str
    """Path relative to the run's folder."""
    keep: bool
    """True for a usable model, saved by ``save_every`` or at an epoch's end. False for a checkpoint
    that only serves to resume from."""
    metrics: Metrics | None = None


class Result(_BaseEvent):
    """Training ended and ``result/`` is complete."""

    type: Literal["result"] = "result"
    path: str
    step: int
    trained_tokens: int
    metrics: dict[str, float | None]
    """Final metrics: train_loss, train_accuracy, and valid_* if there are validation rows."""
    resume_proof: dict[str, Any]
    """``{step, params_sha256, rng_sha256, batch_sha256}`` of the last step."""


class Stopped(_BaseEvent):
    """The run saved a checkpoint and stopped after SIGTERM. Not a failure."""

    type: Literal["stopped"] = "stopped"
    step: int


class Failure(_BaseEvent):
    """The run failed with this run code."""

    type: Literal["failure"] = "failure"
    code: str
    message: str
    param: str | None = None
    faults: list[DatasetError] = []
    """The first 100 errors of an invalid file."""
    fault_count: int = 0


class Preflight(_BaseEvent):
    """Report on the files and the estimated training run. Nothing was trained."""

    type: Literal["preflight"] = "preflight"
    files: dict[str, FileReport]
    faults: list[DatasetError]
    """The first 100 errors of all files."""
    fault_count: int
    error: Problem | None
    warnings: list[str]
    plan: Plan | None
    """None if there is an error."""


class DeviceReport(_BaseEvent):
    """Device that a process trains on, for estimates that are made elsewhere."""

    type: Literal["device"] = "device"
    device_type: str
    """Device type of torch."""
    precisions: list[Literal["float32", "bfloat16"]]
    """Fastest first."""
    free_bytes: float
    flops_per_second: dict[str, float]
    """Precision -> speed of a matrix product."""


class PreviewRow(_BaseEvent):
    """One row as encoded for training."""

    type: Literal["row"] = "row"
    line: int | None
    cut: bool
    target: dict[str, Any] | None
    """Target of the row as a whole, such as ``{"label": …, "id": …}`` for a classifier."""
    sequences: list[TokenSequence]


RunEvent = Annotated[
    Message
    | PhaseProgress
    | Validated
    | Started
    | Metrics
    | Checkpoint
    | Result
    | Stopped
    | Failure
    | Preflight
    | PreviewRow
    | DeviceReport,
    Field(discriminator="type"),
]

_EVENT_ADAPTER: TypeAdapter[RunEvent] = TypeAdapter(RunEvent)


def parse_event(line: str | bytes) -> RunEvent:
    """Parse one line. Raises ``pydantic.ValidationError`` if it is not a run event."""
    return _EVENT_ADAPTER.validate_json(line)


def dump_event(event: RunEvent) -> str:
    """Serialize an event as one line of JSON, without a newline."""
    return event.model_dump_json(exclude_none=False)

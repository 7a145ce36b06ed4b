"""The JSON lines a training child prints: one object a line, told apart by ``type``.

The worker reads them with :func:`parse`; the child writes them with :func:`dump`. Numbers are finite or ``null``:
a line is always valid JSON.
"""

from __future__ import annotations

import time
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

Level = Literal["info", "warn", "error"]


class _BaseEvent(BaseModel):
    model_config = ConfigDict(extra="forbid", ser_json_inf_nan="null")


class Message(_BaseEvent):
    """Something a person following the job wants to read; becomes an event."""

    type: Literal["message"] = "message"
    level: Level = "info"
    message: str
    data: dict[str, Any] | None = None


class Validated(_BaseEvent):
    """Every row is good; every ``auto`` is a number now."""

    type: Literal["validated"] = "validated"
    rows: int
    validation_rows: int
    tokens: int
    """Tokens in one epoch of the training file, after truncation."""
    total_steps: int
    hyperparameters: dict[str, Any]
    """Resolved: no ``auto`` left in it. Sent back unchanged in the spec of the training phase."""


class Started(_BaseEvent):
    """The model is loaded; the first forward pass comes next."""

    type: Literal["started"] = "started"
    at: float = Field(default_factory=time.time)
    """Seconds since 1970."""
    step: int
    """0, or the step the run resumes from."""
    total_steps: int
    trainable_parameters: int
    total_parameters: int
    device: str
    dtype: str
    threads: int


class Metrics(_BaseEvent):
    """What one optimizer step measured. ``valid_*`` are there on steps that evaluated."""

    type: Literal["metrics"] = "metrics"
    step: int
    total_steps: int
    epoch: float
    """Epochs done, 0 to n_epochs."""
    learning_rate: float
    train_loss: float
    """Mean over the targets of the step's whole batch, nats."""
    train_accuracy: float | None = None
    """Share of targets predicted right: tokens for generative tasks, rows for classifiers."""
    grad_norm: float | None = None
    """Global norm before clipping."""
    valid_loss: float | None = None
    valid_accuracy: float | None = None
    general_loss: float | None = None
    """On general rows that are never trained on; ``valid_loss`` and this one have a value before the first step too,
    which the result tells."""
    measures: dict[str, float] = {}
    """The task's own figures on the validation rows."""
    tokens: int
    """Input tokens trained on so far, padding not counted."""
    tokens_per_second: float | None = None
    eta_seconds: float | None = None


class Checkpoint(_BaseEvent):
    """A checkpoint directory is complete on disk (written aside, then renamed)."""

    type: Literal["checkpoint"] = "checkpoint"
    step: int
    path: str
    """Relative to the run's folder."""
    keep: bool
    """True: asked for (``save_every`` or an epoch's end), a model of its own. False: only there to resume from."""
    metrics: Metrics | None = None


class Result(_BaseEvent):
    """Training is over and ``result/`` is complete."""

    type: Literal["result"] = "result"
    path: str
    step: int
    trained_tokens: int
    metrics: dict[str, float | None]
    """The final figures: train_loss and train_accuracy, and valid_* where there is a validation file."""
    resume_proof: dict[str, Any]
    """``{step, params_sha256, rng_sha256, batch_sha256}`` of the last step."""


class Stopped(_BaseEvent):
    """SIGTERM was heeded: saved at a step's end and left. Not a failure."""

    type: Literal["stopped"] = "stopped"
    step: int


class DatasetError(BaseModel):
    """One thing wrong with one row."""

    model_config = ConfigDict(extra="forbid")

    code: str
    line: int | None
    """Physical line in the file, from 1; where a record spans lines, its first."""
    field: str | None
    """Path in the row, such as ``messages[2].content``."""
    message: str
    """What is wrong and what to change."""
    file: Literal["training_file", "validation_file", "general_file"] = "training_file"


class Failure(_BaseEvent):
    """The run ends ``failed`` with this run code."""

    type: Literal["failure"] = "failure"
    code: str
    message: str
    param: str | None = None
    faults: list[DatasetError] = []
    """The first 100 faults of a bad file."""
    fault_count: int = 0


class Range(BaseModel):
    """An estimate."""

    low: float
    expected: float
    high: float


class FileReport(BaseModel):
    """What is in one file."""

    rows: int
    """Those that can be used."""
    tokens: int
    """Of all of them, after truncation."""
    longest_row_tokens: int
    cut_rows: int
    """Rows that were longer than ``max_length``."""
    fault_count: int


class Problem(BaseModel):
    """What a job would fail with."""

    code: str
    message: str
    param: str | None


class Plan(BaseModel):
    """What training comes to where nothing is wrong."""

    total_steps: int
    total_tokens: int
    """Trained on in all steps together."""
    hyperparameters: dict[str, Any]
    """Resolved: no ``auto`` left in it."""
    trainable_parameters: int | None
    """None for a base so large that loading it to count would take too long."""
    total_parameters: int
    tokens_per_second: float
    """By the rule of ``training/estimate.py``, which knows no earlier run."""
    start_seconds: float
    peak_memory_bytes: Range


class Preflight(_BaseEvent):
    """What the files hold and what training on them would come to; nothing was trained."""

    type: Literal["preflight"] = "preflight"
    files: dict[str, FileReport]
    faults: list[DatasetError]
    """The first 100 of all files."""
    fault_count: int
    error: Problem | None
    warnings: list[str]
    plan: Plan | None
    """None where there is an error."""


class Token(BaseModel):
    """One token of a row."""

    token: int
    text: str
    trained: bool
    """Whether it is a target: the model learns to write it, or learns by it."""
    weight: float
    """How much it counts as one; 0 where it is only read."""


class TokenSequence(BaseModel):
    """Tokens that the model reads, or writes, together."""

    name: str
    """``input``, or what the task calls it: ``preferred_output``, ``source``, …"""
    rendered: str
    """The tokens as text, control tokens included: a chat as its template writes it."""
    length: int
    """Tokens; more than ``tokens`` has where the row is very long."""
    tokens: list[Token]


class PreviewRow(_BaseEvent):
    """One row as training sees it."""

    type: Literal["row"] = "row"
    line: int | None
    cut: bool
    target: dict[str, Any] | None
    """What the row as a whole should get: ``{"label": …, "id": …}`` of a classifier."""
    sequences: list[TokenSequence]


RunEvent = Annotated[
    Message | Validated | Started | Metrics | Checkpoint | Result | Stopped | Failure | Preflight | PreviewRow,
    Field(discriminator="type"),
]

_EVENT_ADAPTER: TypeAdapter[RunEvent] = TypeAdapter(RunEvent)


def parse_event(line: str | bytes) -> RunEvent:
    """Read one line. Raises ``pydantic.ValidationError`` where it is not one of ours."""
    return _EVENT_ADAPTER.validate_json(line)


def dump_event(event: RunEvent) -> str:
    """One line of JSON without its newline."""
    return event.model_dump_json(exclude_none=False)

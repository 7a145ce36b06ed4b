"""Fine-tuning jobs and what they tell: events, metrics, checkpoints."""

from __future__ import annotations

from typing import Any

from sqlalchemy import BigInteger, Index, UniqueConstraint
from sqlmodel import Field, SQLModel

from storage.tables.columns import json_column


class Job(SQLModel, table=True):
    """A fine-tuning job: what was asked, who works on it, how far it is, what came of it."""

    __tablename__ = "jobs"
    __table_args__ = (
        Index("ix_jobs_page", "project_id", "created_at", "id"),
        Index("ix_jobs_claim", "state", "run_after", "created_at"),
    )

    id: str = Field(primary_key=True)
    project_id: str = Field(foreign_key="projects.id")
    created_at: float

    base_model: str
    """The registry's id, aliases resolved."""
    task: str
    update: dict[str, Any] = Field(sa_column=json_column())
    method: dict[str, Any] = Field(sa_column=json_column())
    """``{"type": …}`` and nothing else; hyperparameters stand in their own columns."""
    hyperparameters: dict[str, Any] = Field(sa_column=json_column())
    """As asked, ``auto`` included; the numbers used once validation has resolved them."""
    columns: dict[str, Any] = Field(sa_column=json_column())
    training_file: str
    validation_file: str | None = None
    general_file: str | None = None
    starting_point: dict[str, Any] | None = Field(default=None, sa_column=json_column(nullable=True))
    """The earlier result that training goes on from: ``{model, prefix, manifest_sha256, part}``."""
    integrations: list[dict[str, Any]] | None = Field(default=None, sa_column=json_column(nullable=True))
    """Where else metrics go: ``[{type, <type>: {project, …}}]``; never a secret."""
    seed: int
    suffix: str | None = None
    meta: dict[str, Any] | None = Field(default=None, sa_column=json_column(nullable=True))

    key_id: str | None = None
    """The key that made it, for its usage."""
    auto_start: bool = True
    """False: once validated the job waits in ``validated`` until it is started."""
    request: dict[str, Any] | None = Field(default=None, sa_column=json_column(nullable=True))
    """The body that made it, for those that are made after it; null: made before bodies were kept."""
    checkpoint_ttl_seconds: int | None = None
    """Kept checkpoints go so long after they were made; null: they stay."""

    state: str = "validating_files"
    attempt: int = 0
    """Training claims so far; with ``owner`` the fencing token of every write."""
    failures: int = 0
    """Abnormal ends since the last checkpoint; leases lost and orderly stops are free."""
    owner: str | None = None
    """New for every claim, so that an owner who comes back late is a stranger."""
    lease_until: float | None = None
    """By the database's clock."""
    run_after: float = 0.0
    """By the database's clock: not claimed before."""
    cancel_requested: bool = False
    pause_requested: bool = False
    """A running job is to save, give up its worker and wait in ``paused``."""
    resume_state: str | None = None
    """The state to which a paused job goes back."""
    last_seq: int = 0
    """Sequence number of the newest event."""
    cleaned_up: bool = False
    """The bytes that nothing reads again are gone; only after the end."""

    progress: dict[str, Any] | None = Field(default=None, sa_column=json_column(nullable=True))
    trainable_parameters: int | None = None
    trained_tokens: int | None = Field(default=None, sa_type=BigInteger)
    started_at: float | None = None
    """When the first training claim was made."""
    finished_at: float | None = None
    error: dict[str, Any] | None = Field(default=None, sa_column=json_column(nullable=True))
    fine_tuned_model: str | None = None
    result_files: list[str] = Field(default_factory=list, sa_column=json_column())
    resume_proof: dict[str, Any] | None = Field(default=None, sa_column=json_column(nullable=True))
    final_metrics: dict[str, Any] | None = Field(default=None, sa_column=json_column(nullable=True))


class Event(SQLModel, table=True):
    """What the job tells its owner, numbered without gaps."""

    __tablename__ = "events"
    __table_args__ = (UniqueConstraint("job_id", "seq"),)

    id: str = Field(primary_key=True)
    job_id: str = Field(foreign_key="jobs.id", index=True)
    seq: int
    attempt: int
    created_at: float
    level: str
    message: str
    type: str = "message"
    data: dict[str, Any] | None = Field(default=None, sa_column=json_column(nullable=True))


class Metric(SQLModel, table=True):
    """One measured step. A resumed attempt finds the steps it repeats already here and adds nothing."""

    __tablename__ = "metrics"

    job_id: str = Field(primary_key=True, foreign_key="jobs.id")
    step: int = Field(primary_key=True)
    attempt: int
    data: dict[str, Any] = Field(sa_column=json_column())


class Checkpoint(SQLModel, table=True):
    """A committed checkpoint: the row follows its last byte, and readers follow only rows."""

    __tablename__ = "checkpoints"
    __table_args__ = (UniqueConstraint("job_id", "step"),)

    id: str = Field(primary_key=True)
    job_id: str = Field(foreign_key="jobs.id", index=True)
    project_id: str = Field(foreign_key="projects.id")
    step: int
    attempt: int
    created_at: float
    prefix: str
    """Blob prefix of the folder ``{model/, state/, manifest.json}``."""
    manifest_sha256: str
    published: bool
    """True: a model of its own, listed to the client. False: only there to resume from."""
    expires_at: float | None = Field(default=None, index=True)
    """A kept checkpoint is deleted then."""
    metrics: dict[str, Any] | None = Field(default=None, sa_column=json_column(nullable=True))

"""Tables of fine-tuning jobs and their events, metrics and checkpoints."""

from __future__ import annotations

from typing import Any

from sqlalchemy import BigInteger, Index, UniqueConstraint
from sqlmodel import Field, SQLModel

from storage.tables.columns import json_column


class Job(SQLModel, table=True):
    """A fine-tuning job: its request, claim, progress and result."""

    __tablename__ = "jobs"
    __table_args__ = (
        Index("ix_jobs_page", "project_id", "created_at", "id"),
        Index("ix_jobs_claim", "state", "run_after", "created_at"),
    )

    id: str = Field(primary_key=True)
    project_id: str = Field(foreign_key="projects.id")
    created_at: float

    base_model: str
    """Id in the registry, with aliases resolved."""
    task: str
    update: dict[str, Any] = Field(sa_column=json_column())
    method: dict[str, Any] = Field(sa_column=json_column())
    """``{"type": …}`` only; hyperparameters have their own column."""
    hyperparameters: dict[str, Any] = Field(sa_column=json_column())
    """As requested, including ``auto``. Validation replaces ``auto`` with the values used."""
    columns: dict[str, Any] = Field(sa_column=json_column())
    training_file: str
    validation_file: str | None = None
    general_file: str | None = None
    starting_point: dict[str, Any] | None = Field(default=None, sa_column=json_column(nullable=True))
    """Earlier result that training starts from: ``{model, prefix, manifest_sha256, part}``."""
    integrations: list[dict[str, Any]] | None = Field(default=None, sa_column=json_column(nullable=True))
    """Services that metrics are exported to: ``[{type, <type>: {project, …}}]``, without
    secrets."""
    seed: int
    suffix: str | None = None
    meta: dict[str, Any] | None = Field(default=None, sa_column=json_column(nullable=True))

    key_id: str | None = None
    """The key that created the job, which its usage is recorded for."""
    auto_start: bool = True
    """If False, the job waits in ``validated`` until it is started."""
    request: dict[str, Any] | None = Field(default=None, sa_column=json_column(nullable=True))
    """Request body that created the job, for jobs cloned from it; null for jobs from before this
    column."""
    checkpoint_ttl_seconds: int | None = None
    """Lifetime of published checkpoints; null: they do not expire."""

    state: str = "validating_files"
    attempt: int = 0
    """Training claims so far. With ``owner`` it is the fencing token of every write."""
    failures: int = 0
    """Abnormal ends since the last checkpoint. Lost leases and orderly stops do not count."""
    owner: str | None = None
    """New for every claim, so that a worker that comes back late cannot write."""
    lease_until: float | None = None
    """By the database's clock."""
    run_after: float = 0.0
    """Earliest time of the next claim, by the database's clock."""
    cancel_requested: bool = False
    pause_requested: bool = False
    """A running job has to save, release its worker and wait in ``paused``."""
    resume_state: str | None = None
    """The state to which a paused job returns."""
    last_seq: int = 0
    """Sequence number of the newest event."""
    cleaned_up: bool = False
    """Blobs that are no longer needed are deleted, after the job's end."""

    progress: dict[str, Any] | None = Field(default=None, sa_column=json_column(nullable=True))
    trainable_parameters: int | None = None
    trained_tokens: int | None = Field(default=None, sa_type=BigInteger)
    started_at: float | None = None
    """Time of the first training claim."""
    finished_at: float | None = None
    error: dict[str, Any] | None = Field(default=None, sa_column=json_column(nullable=True))
    fine_tuned_model: str | None = None
    result_files: list[str] = Field(default_factory=list, sa_column=json_column())
    resume_proof: dict[str, Any] | None = Field(default=None, sa_column=json_column(nullable=True))
    final_metrics: dict[str, Any] | None = Field(default=None, sa_column=json_column(nullable=True))


class Event(SQLModel, table=True):
    """An event that the job reports to its owner. Sequence numbers have no gaps."""

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
    """Metrics of one step. A resumed attempt adds nothing for steps that it repeats."""

    __tablename__ = "metrics"

    job_id: str = Field(primary_key=True, foreign_key="jobs.id")
    step: int = Field(primary_key=True)
    attempt: int
    data: dict[str, Any] = Field(sa_column=json_column())


class Checkpoint(SQLModel, table=True):
    """A committed checkpoint. The row is inserted after the blobs, and only rows are read."""

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
    """True: a model that is listed to the client. False: only used to resume."""
    expires_at: float | None = Field(default=None, index=True)
    """Time of deletion of a published checkpoint."""
    metrics: dict[str, Any] | None = Field(default=None, sa_column=json_column(nullable=True))

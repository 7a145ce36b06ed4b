"""The rows. The database is the truth: what is not here did not happen.

Times are seconds since 1970. Ids are made by :mod:`storage.ids`. Every row that a client can see carries its
``project_id``; blob keys are made by the server and never contain a client's words.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, BigInteger, Column, Index, UniqueConstraint
from sqlmodel import Field, SQLModel


def _json(nullable: bool = False) -> Any:
    return Column(JSON(none_as_null=True), nullable=nullable)


class Project(SQLModel, table=True):
    """Owner of rows; one project never sees another's."""

    __tablename__ = "projects"

    id: str = Field(primary_key=True)
    name: str
    created_at: float


class ApiKey(SQLModel, table=True):
    """A key's hash; the key itself is shown once and kept nowhere."""

    __tablename__ = "api_keys"

    id: str = Field(primary_key=True)
    project_id: str = Field(foreign_key="projects.id", index=True)
    name: str
    prefix: str
    """The first characters, to tell keys apart in a list."""
    hash: str = Field(unique=True)
    """sha256, hex. Keys carry 190 random bits, so a slow hash would protect nothing more."""
    created_at: float
    revoked_at: float | None = None


class File(SQLModel, table=True):
    """An uploaded or produced file; its bytes lie in the blob store as they came."""

    __tablename__ = "files"
    __table_args__ = (Index("ix_files_page", "project_id", "created_at", "id"),)

    id: str = Field(primary_key=True)
    project_id: str = Field(foreign_key="projects.id")
    created_at: float
    filename: str
    """For display only; never part of a path or key."""
    purpose: str
    bytes: int = Field(sa_type=BigInteger)
    sha256: str
    blob_key: str
    status: str = "processed"
    expires_at: float | None = None


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
    update: dict[str, Any] = Field(sa_column=_json())
    method: dict[str, Any] = Field(sa_column=_json())
    """``{"type": …}`` and nothing else; hyperparameters stand in their own columns."""
    hyperparameters: dict[str, Any] = Field(sa_column=_json())
    """As asked, ``auto`` included; the numbers used once validation has resolved them."""
    columns: dict[str, Any] = Field(sa_column=_json())
    training_file: str
    validation_file: str | None = None
    general_file: str | None = None
    start: dict[str, Any] | None = Field(default=None, sa_column=_json(nullable=True))
    """The earlier result that training goes on from: ``{model, prefix, manifest_sha256, part}``."""
    seed: int
    suffix: str | None = None
    meta: dict[str, Any] | None = Field(default=None, sa_column=_json(nullable=True))

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
    last_seq: int = 0
    """Sequence number of the newest event."""
    tidied: bool = False
    """The bytes that nothing reads again are gone; only after the end."""

    progress: dict[str, Any] | None = Field(default=None, sa_column=_json(nullable=True))
    trainable_parameters: int | None = None
    trained_tokens: int | None = Field(default=None, sa_type=BigInteger)
    started_at: float | None = None
    """When the first training claim was made."""
    finished_at: float | None = None
    error: dict[str, Any] | None = Field(default=None, sa_column=_json(nullable=True))
    fine_tuned_model: str | None = None
    result_files: list[str] = Field(default_factory=list, sa_column=_json())
    resume_proof: dict[str, Any] | None = Field(default=None, sa_column=_json(nullable=True))
    final_metrics: dict[str, Any] | None = Field(default=None, sa_column=_json(nullable=True))


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
    data: dict[str, Any] | None = Field(default=None, sa_column=_json(nullable=True))


class Metric(SQLModel, table=True):
    """One measured step. A resumed attempt finds the steps it repeats already here and adds nothing."""

    __tablename__ = "metrics"

    job_id: str = Field(primary_key=True, foreign_key="jobs.id")
    step: int = Field(primary_key=True)
    attempt: int
    data: dict[str, Any] = Field(sa_column=_json())


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
    keep: bool
    """True: a model of its own, listed to the client. False: only there to resume from."""
    metrics: dict[str, Any] | None = Field(default=None, sa_column=_json(nullable=True))


class Model(SQLModel, table=True):
    """A finished model. One for each succeeded job: the constraint makes a second finish impossible."""

    __tablename__ = "models"
    __table_args__ = (Index("ix_models_page", "project_id", "created_at", "id"),)

    id: str = Field(primary_key=True)
    """``ft:{base}:{project}:{suffix}:{id8}``."""
    project_id: str = Field(foreign_key="projects.id")
    job_id: str = Field(foreign_key="jobs.id", unique=True)
    created_at: float
    base_model: str
    task: str
    update: str
    prefix: str
    manifest_sha256: str
    deleted_at: float | None = None


class Export(SQLModel, table=True):
    """A zip of a model's weights, made on first download."""

    __tablename__ = "exports"

    model_id: str = Field(primary_key=True)
    """The model's or checkpoint model's name."""
    variant: str = Field(primary_key=True)
    created_at: float
    blob_key: str
    sha256: str
    bytes: int = Field(sa_type=BigInteger)


METADATA = SQLModel.metadata

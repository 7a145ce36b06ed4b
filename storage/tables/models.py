"""Tables of finished models, their exports, and permissions of other projects."""

from __future__ import annotations

from sqlalchemy import BigInteger, Index, UniqueConstraint
from sqlmodel import Field, SQLModel


class Model(SQLModel, table=True):
    """A finished model, one per succeeded job. The constraint prevents a second one."""

    __tablename__ = "models"
    __table_args__ = (Index("ix_models_page", "project_id", "created_at", "id"),)

    id: str = Field(primary_key=True)
    """``ft:{base}:luthier:{suffix}:{last characters of the job id}``."""
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
    """A zip of a model's weights, created by the first download."""

    __tablename__ = "exports"

    model_id: str = Field(primary_key=True)
    """Name of the finished model or checkpoint."""
    variant: str = Field(primary_key=True)
    created_at: float
    blob_key: str
    sha256: str
    bytes: int = Field(sa_type=BigInteger)


class CheckpointPermission(SQLModel, table=True):
    """Permission of another project of the organization to use a checkpoint as a model."""

    __tablename__ = "checkpoint_permissions"
    __table_args__ = (UniqueConstraint("checkpoint_model", "project_id"),)

    id: str = Field(primary_key=True)
    checkpoint_model: str = Field(index=True)
    """Name of the checkpoint or finished model."""
    owner_project_id: str = Field(foreign_key="projects.id")
    project_id: str = Field(foreign_key="projects.id", index=True)
    """The project with the permission."""
    created_at: float

"""Tables of access control: organizations, projects, keys, audit log, usage, idempotency."""

from __future__ import annotations

from typing import Any

from sqlalchemy import BigInteger, Index
from sqlmodel import Field, SQLModel

from storage.tables.columns import json_column


class Organization(SQLModel, table=True):
    """Owner of projects. Its admins create projects and keys and read the audit log."""

    __tablename__ = "organizations"

    id: str = Field(primary_key=True)
    name: str
    created_at: float


class Project(SQLModel, table=True):
    """Owner of rows.

    A project never sees rows of another one. A null limit means the server's limit.
    """

    __tablename__ = "projects"

    id: str = Field(primary_key=True)
    # No foreign key: SQLite cannot add one to a table that other tables reference.
    organization_id: str = Field(index=True)
    name: str
    created_at: float
    archived_at: float | None = None
    """From this time on none of its keys is valid. Its rows stay."""
    max_running_jobs: int | None = None
    max_queued_requests: int | None = None
    """Limit of unprocessed requests in batches."""
    max_bytes: int | None = Field(default=None, sa_type=BigInteger)
    """Limit of the total size of files, open uploads and output of unfinished batches."""
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None


class ApiKey(SQLModel, table=True):
    """Hash and attributes of an API key. The key itself is shown once and never stored."""

    __tablename__ = "api_keys"

    id: str = Field(primary_key=True)
    project_id: str = Field(foreign_key="projects.id", index=True)
    name: str
    role: str = "admin"
    """``admin``, ``member``, ``inference`` or ``read``: see :mod:`storage.access.roles`."""
    prefix: str
    """The first characters, to tell keys apart in a list."""
    hash: str = Field(unique=True)
    """sha256, hex. Keys carry 190 random bits, so a slow hash would protect nothing more."""
    created_at: float
    expires_at: float | None = None
    revoked_at: float | None = None


class AuditEntry(SQLModel, table=True):
    """One change by a key.

    An entry is written in the transaction of the change and never altered.
    """

    __tablename__ = "audit"
    __table_args__ = (Index("ix_audit_page", "organization_id", "created_at", "id"),)

    id: str = Field(primary_key=True)
    organization_id: str = Field(foreign_key="organizations.id")
    project_id: str
    key_id: str
    created_at: float
    action: str
    """``{object}.{verb}``: ``file.deleted``, ``key.created``."""
    target: str
    """Id of the changed object."""
    request_id: str
    detail: dict[str, Any] | None = Field(default=None, sa_column=json_column(nullable=True))


class Usage(SQLModel, table=True):
    """Usage of one key by day (UTC), kind and model. The counters only grow."""

    __tablename__ = "usage"

    project_id: str = Field(primary_key=True, foreign_key="projects.id")
    key_id: str = Field(primary_key=True)
    day: str = Field(primary_key=True)
    """``2026-11-21``."""
    kind: str = Field(primary_key=True)
    """``chat``, ``completion``, ``embedding``, ``prediction``, ``training``."""
    model: str = Field(primary_key=True)
    requests: int = 0
    input_tokens: int = Field(default=0, sa_type=BigInteger)
    output_tokens: int = Field(default=0, sa_type=BigInteger)


class IdempotencyRecord(SQLModel, table=True):
    """An idempotent request, and its response once it is complete."""

    __tablename__ = "idempotent_requests"

    project_id: str = Field(primary_key=True, foreign_key="projects.id")
    key: str = Field(primary_key=True)
    """``key:`` and the ``Idempotency-Key`` as sent, or ``retry:`` and a hash for an SDK that
    sends none."""
    fingerprint: str
    """sha256 of role, method, path and body. The same key with another body is rejected."""
    created_at: float = Field(index=True)
    owner: str
    """New for every claim, so that a request that lost its claim writes nothing."""
    status: int | None = None
    """Null while the first request is in progress."""
    body: str | None = None

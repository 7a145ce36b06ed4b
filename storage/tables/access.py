"""Who owns rows, who may ask, and what was asked: organizations, projects, keys, audit, usage."""

from __future__ import annotations

from typing import Any

from sqlalchemy import BigInteger, Index
from sqlmodel import Field, SQLModel

from storage.tables.columns import json_column


class Organization(SQLModel, table=True):
    """Owner of projects. Its admins make projects and keys and read the audit log."""

    __tablename__ = "organizations"

    id: str = Field(primary_key=True)
    name: str
    created_at: float


class Project(SQLModel, table=True):
    """Owner of rows; one project never sees another's. A limit that is null is the server's."""

    __tablename__ = "projects"

    id: str = Field(primary_key=True)
    # No foreign key: SQLite cannot add one to a table that others point at.
    organization_id: str = Field(index=True)
    name: str
    created_at: float
    archived_at: float | None = None
    """None of its keys is in force from then on; its rows stay."""
    max_running_jobs: int | None = None
    max_queued_requests: int | None = None
    """Of batches, not answered yet."""
    max_bytes: int | None = Field(default=None, sa_type=BigInteger)
    """Of files, open uploads and the answers of batches that go on, together."""
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None


class ApiKey(SQLModel, table=True):
    """A key's hash; the key itself is shown once and kept nowhere."""

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
    """One change that somebody made: written in the transaction of the change, never altered."""

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
    """Id of what was changed."""
    request_id: str
    detail: dict[str, Any] | None = Field(default=None, sa_column=json_column(nullable=True))


class Usage(SQLModel, table=True):
    """What a key used on a day (UTC) of one kind and model: counters that only grow."""

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
    """A request that must not be done twice, and what it was answered once it was done."""

    __tablename__ = "idempotent_requests"

    project_id: str = Field(primary_key=True, foreign_key="projects.id")
    key: str = Field(primary_key=True)
    """``key:`` and the ``Idempotency-Key`` as sent, or ``retry:`` and a hash for an SDK that sends none."""
    fingerprint: str
    """sha256 of role, method, path and body: the same key with another body is refused."""
    created_at: float = Field(index=True)
    owner: str
    """New for every request that takes the row, so that one who lost it writes nothing."""
    status: int | None = None
    """Null while the first request is still being worked on."""
    body: str | None = None

"""Tables of batches of requests."""

from __future__ import annotations

from typing import Any

from sqlalchemy import BigInteger, Index
from sqlmodel import Field, SQLModel

from storage.tables.columns import json_column


class Batch(SQLModel, table=True):
    """A batch of requests from one file, with the responses in another.

    It has a lease like a job.
    """

    __tablename__ = "batches"
    __table_args__ = (
        Index("ix_batches_page", "project_id", "created_at", "id"),
        Index("ix_batches_claim", "status", "created_at"),
    )

    id: str = Field(primary_key=True)
    project_id: str = Field(foreign_key="projects.id")
    key_id: str | None = None
    created_at: float
    endpoint: str
    input_file_id: str
    completion_window: str
    meta: dict[str, Any] | None = Field(default=None, sa_column=json_column(nullable=True))
    output_expires_after: int | None = None
    """Lifetime of the output and error files in seconds; null: they do not expire."""
    status: str = "validating"
    """OpenAI's status: validating, failed, in_progress, finalizing, completed, expired, cancelling,
    cancelled."""
    attempt: int = 0
    """Claims so far; with ``owner`` the fencing token of every write."""
    owner: str | None = None
    lease_until: float | None = None
    """By the database's clock."""
    claimed_at: float | None = None
    """By the database's clock. The batch that has waited longest for a worker is next."""
    model: str | None = None
    """The model of all requests; null if there are several."""
    total: int = 0
    """Number of requests, set by validation."""
    processed: int = 0
    """Number of requests whose responses are committed in parts. A new attempt resumes after
    them."""
    completed: int = 0
    failed: int = 0
    input_tokens: int = Field(default=0, sa_type=BigInteger)
    output_tokens: int = Field(default=0, sa_type=BigInteger)
    output_bytes: int = Field(default=0, sa_type=BigInteger)
    """Size of the responses so far; 0 once they are files."""
    errors: list[dict[str, Any]] | None = Field(default=None, sa_column=json_column(nullable=True))
    """Reasons for a failure: ``[{code, message, param, line}]``."""
    output_file_id: str | None = None
    error_file_id: str | None = None
    in_progress_at: float | None = None
    finalizing_at: float | None = None
    completed_at: float | None = None
    failed_at: float | None = None
    expired_at: float | None = None
    cancelling_at: float | None = None
    cancelled_at: float | None = None
    expires_at: float
    """End of the completion window. Later requests are not processed."""
    cleaned_up: bool = Field(default=False, index=True)
    """The blobs of its parts are deleted, after its end."""


class BatchPart(SQLModel, table=True):
    """Responses to consecutive requests. The row is inserted after the blobs are complete."""

    __tablename__ = "batch_parts"

    batch_id: str = Field(primary_key=True, foreign_key="batches.id")
    first_request: int = Field(primary_key=True)
    """Index of its first request, from 0."""
    output: dict[str, Any] | None = Field(default=None, sa_column=json_column(nullable=True))
    """``{key, sha256}`` of the blob of successful responses; null if there are none."""
    errors: dict[str, Any] | None = Field(default=None, sa_column=json_column(nullable=True))
    """``{key, sha256}`` of the blob of failed requests; null if there are none."""

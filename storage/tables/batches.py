"""Batches of requests."""

from __future__ import annotations

from typing import Any

from sqlalchemy import BigInteger, Index
from sqlmodel import Field, SQLModel

from storage.tables.columns import json_column


class Batch(SQLModel, table=True):
    """Requests of one file, answered together into another. Held by a lease like a job."""

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
    """Seconds that the output and error files live; null: they stay."""
    status: str = "validating"
    """OpenAI's: validating, failed, in_progress, finalizing, completed, expired, cancelling, cancelled."""
    attempt: int = 0
    """Claims so far; with ``owner`` the fencing token of every write."""
    owner: str | None = None
    lease_until: float | None = None
    """By the database's clock."""
    claimed_at: float | None = None
    """By the database's clock: who waited longest for a worker comes next."""
    model: str | None = None
    """The one that all lines ask; null where there are several."""
    total: int = 0
    """Lines that are requests; known once they are validated."""
    processed: int = 0
    """Of them, those whose answers are in the blobs of its parts; a new attempt goes on after them."""
    completed: int = 0
    failed: int = 0
    input_tokens: int = Field(default=0, sa_type=BigInteger)
    output_tokens: int = Field(default=0, sa_type=BigInteger)
    output_bytes: int = Field(default=0, sa_type=BigInteger)
    """Of the answers so far, until they are files."""
    errors: list[dict[str, Any]] | None = Field(default=None, sa_column=json_column(nullable=True))
    """Why it failed: ``[{code, message, param, line}]``."""
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
    """What is unanswered by then stays so."""
    cleaned_up: bool = Field(default=False, index=True)
    """Its parts' bytes are gone; only after the end."""


class BatchPart(SQLModel, table=True):
    """Answers to some lines in a row: the row follows their last byte."""

    __tablename__ = "batch_parts"

    batch_id: str = Field(primary_key=True, foreign_key="batches.id")
    first_request: int = Field(primary_key=True)
    """The first request in it, counted from 0."""
    output: dict[str, Any] | None = Field(default=None, sa_column=json_column(nullable=True))
    """``{key, sha256}`` of the blob of answers; null where there is none among them."""
    errors: dict[str, Any] | None = Field(default=None, sa_column=json_column(nullable=True))
    """Likewise of the lines that failed."""

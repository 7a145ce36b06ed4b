"""Bodies of the file routes."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from api.http.pagination import Digits
from api.schemas.base import ResponseModel, StrictModel
from storage.tables import File

UploadPurpose = Literal["assistants", "batch", "fine-tune", "vision", "user_data", "evals"]
"""Purposes that a client can choose for a file."""

MIN_LIFETIME_SECONDS, MAX_LIFETIME_SECONDS = 3600, 2_592_000
"""Limits of a file's lifetime in seconds: one hour to 30 days."""

_DEFAULT_LIFETIME_SECONDS = {"batch": MAX_LIFETIME_SECONDS}
"""Default lifetime in seconds by purpose. Files with other purposes do not expire by default."""


class ExpiresAfter(StrictModel):
    """Lifetime of a file, after which the server deletes it."""

    anchor: Literal["created_at"]
    seconds: Annotated[int, Field(ge=MIN_LIFETIME_SECONDS, le=MAX_LIFETIME_SECONDS), Digits]


class FileForm(StrictModel):
    """Form fields of ``POST /v1/files`` except the file."""

    purpose: UploadPurpose
    expires_after: ExpiresAfter | None = None


class FileOut(ResponseModel):
    """An uploaded file, or a file that a job or batch created."""

    id: str
    object: Literal["file"] = "file"
    bytes: int
    created_at: int
    expires_at: int | None
    filename: str
    purpose: str
    status: str
    """``processed`` from the start: the bytes are stored unchanged, and a job reads them."""
    status_details: str | None = None


class FileDeleted(ResponseModel):
    id: str
    object: Literal["file"] = "file"
    deleted: Literal[True] = True


def resolve_lifetime(purpose: str, expires_after: ExpiresAfter | None) -> int | None:
    """Return the file's lifetime in seconds, or None if it does not expire."""
    return expires_after.seconds if expires_after else _DEFAULT_LIFETIME_SECONDS.get(purpose)


def to_file_out(file: File) -> FileOut:
    return FileOut(
        id=file.id,
        bytes=file.bytes,
        created_at=int(file.created_at),
        expires_at=None if file.expires_at is None else int(file.expires_at),
        filename=file.filename,
        purpose=file.purpose,
        status=file.status,
        status_details=file.status_details,
    )

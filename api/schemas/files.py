"""Files on the wire."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, Field

from api.http.pagination import Digits
from api.schemas.base import StrictModel
from storage.tables import File

UploadPurpose = Literal["assistants", "batch", "fine-tune", "vision", "user_data", "evals"]
"""What a client may say that a file is for."""

MIN_LIFETIME_SECONDS, MAX_LIFETIME_SECONDS = 3600, 2_592_000
"""Seconds that a file may be asked to live: an hour to 30 days."""

_DEFAULT_LIFETIME_SECONDS = {"batch": MAX_LIFETIME_SECONDS}
"""Seconds that files of a purpose live where nothing is asked; of the others, for ever."""


class ExpiresAfter(StrictModel):
    """When a file goes by itself."""

    anchor: Literal["created_at"]
    seconds: Annotated[int, Field(ge=MIN_LIFETIME_SECONDS, le=MAX_LIFETIME_SECONDS), Digits]


class FileForm(StrictModel):
    """The fields beside the file in ``POST /v1/files``."""

    purpose: UploadPurpose
    expires_after: ExpiresAfter | None = None


class FileOut(BaseModel):
    """An uploaded file, or one that a job made."""

    id: str
    object: Literal["file"] = "file"
    bytes: int
    created_at: int
    expires_at: int | None
    filename: str
    purpose: str
    status: str
    """``processed`` from the start: the bytes are kept as they came, and a job reads them."""
    status_details: str | None = None


class FileDeleted(BaseModel):
    id: str
    object: Literal["file"] = "file"
    deleted: Literal[True] = True


def resolve_lifetime(purpose: str, expires_after: ExpiresAfter | None) -> int | None:
    """Seconds that a file lives; None for ever."""
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

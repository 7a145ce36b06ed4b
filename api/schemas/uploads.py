"""Uploads on the wire: a file in parts, until it is completed."""

from __future__ import annotations

import time
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from api.http.multipart import MAX_FILENAME_LENGTH
from api.schemas.base import StrictModel
from api.schemas.files import ExpiresAfter, FileOut, UploadPurpose, to_file_out
from storage.tables import File, Upload, UploadPart

MAX_PARTS = 10_000
"""Of one upload."""

UploadStatus = Literal["pending", "completed", "cancelled", "expired"]


def _check_printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("it must have no control characters")
    return text


Name = Annotated[str, StringConstraints(min_length=1, max_length=MAX_FILENAME_LENGTH), AfterValidator(_check_printable)]
PartId = Annotated[str, StringConstraints(min_length=1, max_length=256)]


class UploadIn(StrictModel):
    """The body of ``POST /v1/uploads``."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"filename": "rows.jsonl", "purpose": "fine-tune", "bytes": 2_147_483_648, "mime_type": "text/jsonl"}
            ]
        }
    )

    filename: Name
    purpose: UploadPurpose
    bytes: Annotated[int, Field(ge=0, le=2**53)]
    """Of the whole file: what the parts must add up to."""
    mime_type: Name
    """Kept out of every decision: the bytes are stored as they come."""
    expires_after: ExpiresAfter | None = None
    """When the finished file goes; by default a ``batch`` file after 30 days, others never."""


class UploadCompleteIn(StrictModel):
    """The body of ``POST /v1/uploads/{upload_id}/complete``."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"part_ids": ["part_abc", "part_def"]}]})

    part_ids: Annotated[list[PartId], Field(max_length=MAX_PARTS)]
    """The parts in the order in which they make up the file, whenever each came."""
    md5: Annotated[str, StringConstraints(max_length=64)] | None = None
    """Of the whole file, in hexadecimal: other bytes make no file."""


class UploadOut(BaseModel):
    """A file on its way."""

    id: str
    object: Literal["upload"] = "upload"
    bytes: int
    created_at: int
    expires_at: int
    """An upload that is not completed by then is void."""
    filename: str
    purpose: str
    status: UploadStatus
    file: FileOut | None
    """The finished file; null before, and where it was deleted since."""


class UploadPartOut(BaseModel):
    """A part that has arrived."""

    id: str
    object: Literal["upload.part"] = "upload.part"
    created_at: int
    upload_id: str


def get_upload_status(upload: Upload) -> UploadStatus:
    """An upload whose hour is over has expired, whether its row says so yet or not."""
    over = upload.status == "pending" and upload.expires_at <= time.time()
    status: UploadStatus = "expired" if over else upload.status  # type: ignore[assignment]
    return status


def to_upload_out(upload: Upload, file: File | None = None) -> UploadOut:
    return UploadOut(
        id=upload.id,
        bytes=upload.bytes,
        created_at=int(upload.created_at),
        expires_at=int(upload.expires_at),
        filename=upload.filename,
        purpose=upload.purpose,
        status=get_upload_status(upload),
        file=to_file_out(file) if file else None,
    )


def to_part_out(part: UploadPart) -> UploadPartOut:
    return UploadPartOut(id=part.id, created_at=int(part.created_at), upload_id=part.upload_id)

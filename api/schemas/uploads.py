"""Bodies of the upload routes."""

from __future__ import annotations

import time
from typing import Annotated, Literal

from pydantic import AfterValidator, ConfigDict, Field, StringConstraints

from api.http.multipart import MAX_FILENAME_LENGTH
from api.schemas.base import ResponseModel, StrictModel
from api.schemas.files import ExpiresAfter, FileOut, UploadPurpose, to_file_out
from storage.tables import File, Upload, UploadPart

MAX_PARTS = 10_000
"""Parts per upload."""

UploadStatus = Literal["pending", "completed", "cancelled", "expired"]


def _check_printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("it must not contain control characters")
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
    """Size of the complete file; the sizes of the parts must add up to it."""
    mime_type: Name
    """Has no effect: the bytes are stored unchanged."""
    expires_after: ExpiresAfter | None = None
    """Lifetime of the completed file; by default 30 days for ``batch``, unlimited for others."""


class UploadCompleteIn(StrictModel):
    """The body of ``POST /v1/uploads/{upload_id}/complete``."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"part_ids": ["part_abc", "part_def"]}]})

    part_ids: Annotated[list[PartId], Field(max_length=MAX_PARTS)]
    """Ids of the parts in the order of the file, which may differ from the order of arrival."""
    md5: Annotated[str, StringConstraints(max_length=64)] | None = None
    """MD5 of the complete file, in hexadecimal. If it differs, no file is created."""


class UploadOut(ResponseModel):
    """A file that is uploaded in parts."""

    id: str
    object: Literal["upload"] = "upload"
    bytes: int
    created_at: int
    expires_at: int
    """Deadline to complete the upload."""
    filename: str
    purpose: str
    status: UploadStatus
    file: FileOut | None
    """The completed file; null before completion, and after the file was deleted."""


class UploadPartOut(ResponseModel):
    """A part that the server has stored."""

    id: str
    object: Literal["upload.part"] = "upload.part"
    created_at: int
    upload_id: str


def get_upload_status(upload: Upload) -> UploadStatus:
    """Return the status. An upload past its deadline is expired, even before its row says so."""
    is_overdue = upload.status == "pending" and upload.expires_at <= time.time()
    status: UploadStatus = "expired" if is_overdue else upload.status  # type: ignore[assignment]
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

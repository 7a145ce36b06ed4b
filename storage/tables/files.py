"""Tables of files, and of uploads that become files."""

from __future__ import annotations

from sqlalchemy import BigInteger, Index
from sqlmodel import Field, SQLModel


class File(SQLModel, table=True):
    """An uploaded or generated file. Its bytes are stored unchanged in the blob store."""

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
    status_details: str | None = None
    expires_at: float | None = Field(default=None, index=True)
    """From this time on the file is not available. Its row and bytes are deleted soon after, or
    when the last job that needs it ends."""


class Upload(SQLModel, table=True):
    """A file that is uploaded in parts, in any order, until it is completed."""

    __tablename__ = "uploads"
    __table_args__ = (Index("ix_uploads_expiry", "status", "expires_at"),)

    id: str = Field(primary_key=True)
    project_id: str = Field(foreign_key="projects.id", index=True)
    created_at: float
    expires_at: float
    filename: str
    """For display only; never part of a path or key."""
    mime_type: str
    purpose: str
    bytes: int = Field(sa_type=BigInteger)
    """Declared size, which must equal the sum of the parts."""
    status: str = "pending"
    """``pending``, ``completed``, ``cancelled``, ``expired``."""
    file_id: str | None = None
    file_expires_after: int | None = None
    """Lifetime of the completed file in seconds."""


class UploadPart(SQLModel, table=True):
    """One part of an upload, stored as its own blob until the upload ends."""

    __tablename__ = "upload_parts"

    id: str = Field(primary_key=True)
    upload_id: str = Field(foreign_key="uploads.id", index=True)
    created_at: float
    bytes: int = Field(sa_type=BigInteger)
    sha256: str
    blob_key: str

"""Files: bytes in, as they came, and out again."""

from __future__ import annotations

import asyncio
import time
from typing import Annotated, Any, get_args

from fastapi import APIRouter, Query
from sqlalchemy import delete, or_, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col
from starlette.requests import Request
from starlette.responses import StreamingResponse

from api.deps import PrincipalDep, RoomsDep
from api.errors import InvalidRequest, NotFound, documented
from api.multipart import Upload, received
from api.pages import FILES, After, Cursor, Digits, Direction, ListOut, listed
from api.streaming import verified
from api.strict_json import StrictRoute
from api.wire.files import FileDeleted, FileOut, UploadPurpose, file_out
from jobs.states import TERMINAL
from storage.ids import new_id
from storage.tables import File, Job

router = APIRouter(prefix="/files", tags=["files"], route_class=StrictRoute, responses=documented(404, 413))

_FORM: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file", "purpose"],
                    "additionalProperties": False,
                    "properties": {
                        "file": {"type": "string", "format": "binary"},
                        "purpose": {"type": "string", "enum": list(get_args(UploadPurpose))},
                    },
                }
            }
        },
    }
}

Purpose = Annotated[str | None, Query(max_length=64, description="Only files with this purpose.")]
FileLimit = Annotated[int, Digits, Query(ge=1, le=10_000, description="Objects on one page.")]


@router.post("", openapi_extra=_FORM)
async def create_file(request: Request, rooms: RoomsDep, principal: PrincipalDep) -> FileOut:
    """Upload a file. Its bytes are stored as they come; a job that names it reads them."""
    settings = rooms.settings
    async with received(request, settings.home / "uploads", "file", settings.max_upload_bytes) as upload:
        purpose = _purpose(upload)
        file_id = new_id("file")
        key = f"projects/{principal.project_id}/files/{file_id}"
        stored = await asyncio.to_thread(rooms.blobs.put_file, key, upload.path)
    file = File(
        id=file_id,
        project_id=principal.project_id,
        created_at=time.time(),
        filename=upload.filename,
        purpose=purpose,
        bytes=stored.size,
        sha256=stored.sha256,
        blob_key=key,
    )
    out = file_out(file)
    async with rooms.db.write() as session:
        session.add(file)
    return out


@router.get("")
async def list_files(
    rooms: RoomsDep,
    principal: PrincipalDep,
    purpose: Purpose = None,
    limit: FileLimit = 10_000,
    order: Direction = "desc",
    after: After = None,
) -> ListOut[FileOut]:
    """The project's files, the newest first."""
    conditions = [col(File.project_id) == principal.project_id]
    if purpose is not None:
        conditions.append(col(File.purpose) == purpose)
    async with rooms.db.read() as session:
        page = await FILES.page(session, conditions, Cursor(after, limit, order))
    return listed([file_out(file) for file in page.rows], page.has_more)


@router.get("/{file_id}")
async def retrieve_file(file_id: str, rooms: RoomsDep, principal: PrincipalDep) -> FileOut:
    """One file's facts."""
    async with rooms.db.read() as session:
        return file_out(await _owned(session, principal.project_id, file_id))


@router.delete("/{file_id}")
async def delete_file(file_id: str, rooms: RoomsDep, principal: PrincipalDep) -> FileDeleted:
    """Delete a file and its bytes. Refused while a job that has not ended needs it."""
    async with rooms.db.write() as session:
        file = await _owned(session, principal.project_id, file_id, lock=True)
        used = or_(col(Job.training_file) == file_id, col(Job.validation_file) == file_id)
        mine = [col(Job.project_id) == principal.project_id, used, col(Job.state).not_in(TERMINAL)]
        job_id = (await session.execute(select(col(Job.id)).where(*mine).limit(1))).scalar_one_or_none()
        if job_id is not None:
            raise InvalidRequest(
                f"The job {job_id} needs this file; cancel the job or wait for its end.",
                param="file_id",
                code="file_in_use",
            )
        await session.execute(delete(File).where(col(File.id) == file_id))
    await asyncio.to_thread(rooms.blobs.delete, file.blob_key)
    return FileDeleted(id=file_id)


@router.get(
    "/{file_id}/content",
    response_class=StreamingResponse,
    responses={200: {"content": {"application/octet-stream": {}}, "description": "The bytes as they were uploaded."}},
)
async def retrieve_file_content(file_id: str, rooms: RoomsDep, principal: PrincipalDep) -> StreamingResponse:
    """The file's bytes, verified while they are sent: damaged ones end short of the content-length."""
    async with rooms.db.read() as session:
        file = await _owned(session, principal.project_id, file_id)
    chunks = await verified(lambda: rooms.blobs.stream(file.blob_key, file.sha256))
    headers = {"content-length": str(file.bytes), "x-content-sha256": file.sha256}
    return StreamingResponse(chunks, media_type="application/octet-stream", headers=headers)


async def _owned(session: AsyncSession, project_id: str, file_id: str, *, lock: bool = False) -> File:
    query = select(File).where(col(File.id) == file_id, col(File.project_id) == project_id)
    file = (await session.execute(query.with_for_update() if lock else query)).scalar_one_or_none()
    if file is None:
        raise NotFound("There is no such file for this key.", param="file_id")
    return file


def _purpose(upload: Upload) -> str:
    for name in upload.fields:
        if name.startswith("expires_after"):
            raise InvalidRequest(
                "Files do not expire here yet; send no 'expires_after'.",
                param="expires_after",
                code="unsupported_parameter",
            )
        if name != "purpose":
            raise InvalidRequest(
                f"Unknown parameter: '{name[:256]}'. Remove it or correct its name.",
                param=name[:256] or None,
                code="unknown_parameter",
            )
    purposes = get_args(UploadPurpose)
    purpose = upload.fields.get("purpose", "")
    if purpose not in purposes:
        code = "invalid_value" if "purpose" in upload.fields else "missing_required_parameter"
        raise InvalidRequest(f"'purpose' must be one of: {', '.join(purposes)}.", param="purpose", code=code)
    return purpose

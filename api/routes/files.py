"""Files: bytes in, as they came, and out again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Annotated, Any, get_args

from fastapi import APIRouter, Query
from pydantic import Field, ValidationError
from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from api.deps import PrincipalDep, RoomsDep
from api.errors import InProgress, InvalidRequest, NotFound, documented, invalid
from api.http.idempotency import is_replayed, once_of, once_only_form
from api.http.multipart import nested, received
from api.http.pagination import FILES, After, Cursor, Digits, Direction, ListOut, listed
from api.http.streaming import verified
from api.http.strict_json import StrictRoute
from api.schemas.files import MAX_LIFE, MIN_LIFE, FileDeleted, FileForm, FileOut, UploadPurpose, file_out, life_of
from api.services.quota import check_quota
from inference.protocol.validation import fault_of
from jobs.blob_keys import files_prefix
from jobs.retention.expiry import forget
from jobs.retention.file_references import needing
from storage.access.audit import audit
from storage.clock import unexpired
from storage.ids import new_id
from storage.tables import File

router = APIRouter(prefix="/files", tags=["files"], route_class=StrictRoute, responses=documented(404, 413))

_FORM: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file", "purpose"],
                    "dependentRequired": {
                        "expires_after[anchor]": ["expires_after[seconds]"],
                        "expires_after[seconds]": ["expires_after[anchor]"],
                    },
                    "additionalProperties": False,
                    "properties": {
                        "file": {"type": "string", "format": "binary"},
                        "purpose": {"type": "string", "enum": list(get_args(UploadPurpose))},
                        "expires_after[anchor]": {"type": "string", "enum": ["created_at"]},
                        "expires_after[seconds]": {"type": "integer", "minimum": MIN_LIFE, "maximum": MAX_LIFE},
                    },
                }
            }
        },
    }
}

Purpose = Annotated[str | None, Query(max_length=64, description="Only files with this purpose.")]
FileLimit = Annotated[int, Field(ge=0, le=10_000), Digits, Query(description="Objects on one page.")]


@router.post("", response_model=FileOut, openapi_extra=_FORM)
async def create_file(request: Request, rooms: RoomsDep, principal: PrincipalDep) -> Response:
    """Upload a file. Its bytes are stored as they come; a job that names it reads them.

    With ``expires_after`` it goes by itself; a ``batch`` file does so after 30 days where nothing is asked.
    """
    settings = rooms.settings
    async with received(request, settings.home / "uploads", "file", settings.max_upload_bytes) as sent:
        form = _form(sent.fields)
        file_id, now = new_id("file"), time.time()
        key = f"{files_prefix(principal.project_id)}/{file_id}"
        stored = await asyncio.to_thread(rooms.blobs.put_file, key, sent.path)
    life = life_of(form.purpose, form.expires_after)
    file = File(
        id=file_id,
        project_id=principal.project_id,
        created_at=now,
        filename=sent.filename,
        purpose=form.purpose,
        bytes=stored.size,
        sha256=stored.sha256,
        blob_key=key,
        expires_at=None if life is None else now + life,
    )

    async def insert(request: Request) -> Response:
        once, out = await once_of(request), file_out(file)
        async with rooms.db.write() as session:
            await check_quota(session, principal, file.bytes)
            session.add(file)
            await once.record(session, out)
            await audit(session, principal, "file.created", file.id)
        return JSONResponse(out.model_dump())

    try:
        answer = await once_only_form(request, insert, sent.filename, form.purpose, life, stored.sha256)
    except (InvalidRequest, InProgress):
        await forget(rooms.blobs, [key])
        raise
    if is_replayed(answer):
        await forget(rooms.blobs, [key])
    return answer


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
    there = [col(File.project_id) == principal.project_id, unexpired(col(File.expires_at))]
    filters = [] if purpose is None else [col(File.purpose) == purpose]
    async with rooms.db.read() as session:
        page = await FILES.page(session, there, Cursor(after, limit, order), filters)
    return listed([file_out(file) for file in page.rows], page.has_more)


@router.get("/{file_id}")
async def retrieve_file(file_id: str, rooms: RoomsDep, principal: PrincipalDep) -> FileOut:
    """One file's facts."""
    async with rooms.db.read() as session:
        return file_out(await _owned(session, principal.project_id, file_id))


@router.delete("/{file_id}")
async def delete_file(file_id: str, rooms: RoomsDep, principal: PrincipalDep) -> FileDeleted:
    """Delete a file and its bytes. Refused while a job or a batch that has not ended needs it."""
    async with rooms.db.write() as session:
        file = await _owned(session, principal.project_id, file_id, lock=True)
        for kind, query in needing(principal.project_id, file_id).items():
            user = (await session.execute(query.limit(1))).scalar_one_or_none()
            if user is not None:
                raise InvalidRequest(
                    f"The {kind} {user} needs this file; cancel the {kind} or wait for its end.",
                    param="file_id",
                    code="file_in_use",
                )
        await session.execute(delete(File).where(col(File.id) == file_id))
        await audit(session, principal, "file.deleted", file_id)
    await forget(rooms.blobs, [file.blob_key])
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
    there = [col(File.id) == file_id, col(File.project_id) == project_id, unexpired(col(File.expires_at))]
    query = select(File).where(*there)
    file = (await session.execute(query.with_for_update() if lock else query)).scalar_one_or_none()
    if file is None:
        raise NotFound("There is no such file for this key.", param="file_id")
    return file


def _form(fields: Mapping[str, str]) -> FileForm:
    """Raises ``InvalidRequest``."""
    found = nested(fields)
    try:
        return FileForm.model_validate_strings(found, strict=False)
    except ValidationError as error:
        faults = [{**fault, "loc": ("body", *fault["loc"])} for fault in error.errors(include_url=False)]
        raise invalid(fault_of(faults, found)) from None

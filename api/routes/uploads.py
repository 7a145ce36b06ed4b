"""Uploads: files that come in parts, in any order and in parallel."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from fastapi import APIRouter
from sqlalchemy import delete, func, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col
from starlette.requests import Request

from api.deps import OnceDep, PrincipalDep, RoomsDep
from api.errors import InvalidRequest, NotFound, documented
from api.http.multipart import received
from api.http.strict_json import StrictRoute
from api.schemas.files import life_of
from api.schemas.uploads import (
    MAX_PARTS,
    UploadCompleteIn,
    UploadIn,
    UploadOut,
    UploadPartOut,
    part_out,
    status_of,
    upload_out,
)
from api.services.quota import check_quota
from api.services.upload_assembly import assemble
from jobs.blob_keys import uploads_prefix
from jobs.retention.expiry import forget
from storage.access.audit import audit
from storage.clock import unexpired
from storage.ids import new_id
from storage.tables import File, Upload, UploadPart

router = APIRouter(prefix="/uploads", tags=["uploads"], route_class=StrictRoute, responses=documented(404, 413))

MAX_PART_BYTES = 64 * 2**20
LIFE_SECONDS = 3600
"""From creating an upload to the end of the time to complete it."""

_FORM: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["data"],
                    "additionalProperties": False,
                    "properties": {"data": {"type": "string", "format": "binary"}},
                }
            }
        },
    }
}


@router.post("")
async def create_upload(body: UploadIn, rooms: RoomsDep, principal: PrincipalDep, once: OnceDep) -> UploadOut:
    """Begin a file that comes in parts of at most 64 MB. It must be completed within an hour."""
    most = rooms.settings.max_assembled_bytes
    if body.bytes > most:
        raise InvalidRequest(f"A file in parts has at most {most:,} bytes here; split it.", param="bytes")
    now = time.time()
    upload = Upload(
        id=new_id("upload"),
        project_id=principal.project_id,
        created_at=now,
        expires_at=now + LIFE_SECONDS,
        filename=body.filename,
        mime_type=body.mime_type,
        purpose=body.purpose,
        bytes=body.bytes,
        file_expires_after=life_of(body.purpose, body.expires_after),
    )
    # An open upload counts as what it declares, so that completing it adds nothing.
    async with rooms.db.write() as session:
        await check_quota(session, principal, upload.bytes)
        session.add(upload)
        await once.record(session, upload_out(upload))
        await audit(session, principal, "upload.created", upload.id)
    return upload_out(upload)


@router.post("/{upload_id}/parts", openapi_extra=_FORM)
async def create_upload_part(
    upload_id: str, request: Request, rooms: RoomsDep, principal: PrincipalDep
) -> UploadPartOut:
    """Add a part. Parts may come in parallel; their order is told when the upload is completed."""
    async with rooms.db.read() as session:
        _check_pending(await _owned(session, principal.project_id, upload_id))
    part_id = new_id("part")
    key = f"{uploads_prefix(principal.project_id)}/{upload_id}/{part_id}"
    async with received(request, rooms.settings.home / "uploads", "data", MAX_PART_BYTES) as form:
        for name in form.fields:
            raise InvalidRequest("Send the part's bytes as 'data' and nothing else.", param=name[:256] or None)
        stored = await asyncio.to_thread(rooms.blobs.put_file, key, form.path)
    part = UploadPart(
        id=part_id,
        upload_id=upload_id,
        created_at=time.time(),
        bytes=stored.size,
        sha256=stored.sha256,
        blob_key=key,
    )
    try:
        async with rooms.db.write() as session:
            upload = await _owned(session, principal.project_id, upload_id, lock=True)
            _check_pending(upload)
            await _check_room(session, upload, part.bytes)
            session.add(part)
    except (InvalidRequest, NotFound):
        await forget(rooms.blobs, [key])
        raise
    return part_out(part)


@router.post("/{upload_id}/complete")
async def complete_upload(
    upload_id: str, body: UploadCompleteIn, request: Request, rooms: RoomsDep, principal: PrincipalDep
) -> UploadOut:
    """Make the file of the parts, in the order given. Completing again answers the same file."""
    async with rooms.db.read() as session:
        upload = await _owned(session, principal.project_id, upload_id)
    if status_of(upload) == "pending":
        async with request.app.state.assemblies:
            await assemble(rooms, principal, upload, body)
    async with rooms.db.read() as session:
        upload = await _owned(session, principal.project_id, upload_id)
        there = [col(File.id) == upload.file_id, unexpired(col(File.expires_at))]
        file = (await session.execute(select(File).where(*there))).scalar_one_or_none()
    if status_of(upload) != "completed":
        raise _ended(upload)
    return upload_out(upload, file)


@router.post("/{upload_id}/cancel")
async def cancel_upload(upload_id: str, rooms: RoomsDep, principal: PrincipalDep) -> UploadOut:
    """Give an upload up: its parts are removed. One that is completed or has expired is a 400."""
    async with rooms.db.write() as session:
        upload = await _owned(session, principal.project_id, upload_id, lock=True)
        if upload.status != "cancelled":
            _check_pending(upload)
        upload.status = "cancelled"
        gone = delete(UploadPart).where(col(UploadPart.upload_id) == upload_id).returning(col(UploadPart.blob_key))
        keys = list((await session.execute(gone)).scalars())
        await audit(session, principal, "upload.cancelled", upload_id)
    await forget(rooms.blobs, keys)
    return upload_out(upload)


async def _owned(session: AsyncSession, project_id: str, upload_id: str, *, lock: bool = False) -> Upload:
    query = select(Upload).where(col(Upload.id) == upload_id, col(Upload.project_id) == project_id)
    upload = (await session.execute(query.with_for_update() if lock else query)).scalar_one_or_none()
    if upload is None:
        raise NotFound("There is no such upload for this key.", param="upload_id")
    return upload


def _check_pending(upload: Upload) -> None:
    if status_of(upload) != "pending":
        raise _ended(upload)


def _ended(upload: Upload) -> InvalidRequest:
    return InvalidRequest(
        f"This upload is {status_of(upload)}; begin another with POST /v1/uploads.",
        param="upload_id",
        code="invalid_state",
    )


async def _check_room(session: AsyncSession, upload: Upload, more: int) -> None:
    """Every part may be sent twice, as a client does that lost an answer."""
    query = select(func.count(), func.coalesce(func.sum(col(UploadPart.bytes)), 0))
    count, total = (await session.execute(query.where(col(UploadPart.upload_id) == upload.id))).one()
    if count >= MAX_PARTS or total + more > 2 * upload.bytes:
        raise InvalidRequest(
            f"An upload takes at most {MAX_PARTS:,} parts and twice the {upload.bytes:,} bytes it was declared with.",
            param="data",
            code="upload_too_large",
        )

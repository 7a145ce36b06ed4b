"""Routes for uploads: files that arrive in parts, in any order and in parallel."""

from __future__ import annotations

import time
from typing import Any

from fastapi import APIRouter
from sqlalchemy import delete, func, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col
from starlette.requests import Request

from api.deps import AssemblySlotsDep, IdempotencyDep, PrincipalDep, ResourcesDep
from api.errors import InvalidRequest, NotFound, error_responses
from api.http.multipart import receive_file
from api.http.strict_json import StrictRoute
from api.schemas.files import resolve_lifetime
from api.schemas.uploads import (
    MAX_PARTS,
    UploadCompleteIn,
    UploadIn,
    UploadOut,
    UploadPartOut,
    get_upload_status,
    to_part_out,
    to_upload_out,
)
from api.services.quota import check_quota
from api.services.upload_assembly import assemble_upload
from jobs.blob_keys import uploads_prefix
from jobs.retention.expiry import delete_blobs
from storage.access.audit import audit
from storage.clock import is_unexpired
from storage.ids import new_id
from storage.tables import File, Upload, UploadPart

router = APIRouter(prefix="/uploads", tags=["uploads"], route_class=StrictRoute, responses=error_responses(404, 413))

MAX_PART_BYTES = 64 * 2**20
UPLOAD_LIFETIME_SECONDS = 3600
"""Time from creating an upload to the deadline for completing it."""

_FORM_OPENAPI: dict[str, Any] = {
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
async def create_upload(
    body: UploadIn, resources: ResourcesDep, principal: PrincipalDep, recorder: IdempotencyDep
) -> UploadOut:
    """Create an upload of a file in parts of at most 64 MiB.

    It must be completed within an hour.
    """
    max_bytes = resources.settings.max_assembled_bytes
    if body.bytes > max_bytes:
        raise InvalidRequest(f"An upload may have at most {max_bytes:,} bytes; split the file.", param="bytes")
    now = time.time()
    upload = Upload(
        id=new_id("upload"),
        project_id=principal.project_id,
        created_at=now,
        expires_at=now + UPLOAD_LIFETIME_SECONDS,
        filename=body.filename,
        mime_type=body.mime_type,
        purpose=body.purpose,
        bytes=body.bytes,
        file_expires_after=resolve_lifetime(body.purpose, body.expires_after),
    )
    # An open upload counts with its declared size, so that completing it adds nothing to the quota.
    async with resources.db.write() as session:
        await check_quota(session, principal, upload.bytes)
        session.add(upload)
        await recorder.record(session, to_upload_out(upload))
        await audit(session, principal, "upload.created", upload.id)
    return to_upload_out(upload)


@router.post("/{upload_id}/parts", openapi_extra=_FORM_OPENAPI)
async def create_upload_part(
    upload_id: str, request: Request, resources: ResourcesDep, principal: PrincipalDep
) -> UploadPartOut:
    """Add a part to an upload.

    Parts may arrive in parallel; the request that completes the upload sets their order.
    """
    async with resources.db.read() as session:
        _check_pending(await _get_upload_or_404(session, principal.project_id, upload_id))
    part_id = new_id("part")
    key = f"{uploads_prefix(principal.project_id)}/{upload_id}/{part_id}"
    async with receive_file(request, resources.settings.home / "uploads", "data", MAX_PART_BYTES) as form:
        for name in form.fields:
            raise InvalidRequest("Send only the part's bytes, as 'data'.", param=name[:256] or None)
        stored = await resources.blob_threads.run(resources.blobs.put_file, key, form.path)
    part = UploadPart(
        id=part_id,
        upload_id=upload_id,
        created_at=time.time(),
        bytes=stored.size,
        sha256=stored.sha256,
        blob_key=key,
    )
    try:
        async with resources.db.write() as session:
            upload = await _get_upload_or_404(session, principal.project_id, upload_id, lock=True)
            _check_pending(upload)
            await _check_capacity(session, upload, part.bytes)
            session.add(part)
    except (InvalidRequest, NotFound):
        await delete_blobs(resources, [key])
        raise
    return to_part_out(part)


@router.post("/{upload_id}/complete")
async def complete_upload(
    upload_id: str,
    body: UploadCompleteIn,
    resources: ResourcesDep,
    principal: PrincipalDep,
    assembly_slots: AssemblySlotsDep,
) -> UploadOut:
    """Create the file from the parts in the given order.

    Completing an upload again returns the same file.
    """
    async with resources.db.read() as session:
        upload = await _get_upload_or_404(session, principal.project_id, upload_id)
    if get_upload_status(upload) == "pending":
        async with assembly_slots:
            await assemble_upload(resources, principal, upload, body)
    async with resources.db.read() as session:
        upload = await _get_upload_or_404(session, principal.project_id, upload_id)
        conditions = [col(File.id) == upload.file_id, is_unexpired(col(File.expires_at))]
        file = (await session.execute(select(File).where(*conditions))).scalar_one_or_none()
    if get_upload_status(upload) != "completed":
        raise _upload_not_pending(upload)
    return to_upload_out(upload, file)


@router.post("/{upload_id}/cancel")
async def cancel_upload(upload_id: str, resources: ResourcesDep, principal: PrincipalDep) -> UploadOut:
    """Cancel an upload and delete its parts.

    If it is completed or has expired, the response is 400.
    """
    async with resources.db.write() as session:
        upload = await _get_upload_or_404(session, principal.project_id, upload_id, lock=True)
        if upload.status != "cancelled":
            _check_pending(upload)
        upload.status = "cancelled"
        delete_parts = delete(UploadPart).where(col(UploadPart.upload_id) == upload_id)
        keys = list((await session.execute(delete_parts.returning(col(UploadPart.blob_key)))).scalars())
        await audit(session, principal, "upload.cancelled", upload_id)
    await delete_blobs(resources, keys)
    return to_upload_out(upload)


async def _get_upload_or_404(session: AsyncSession, project_id: str, upload_id: str, *, lock: bool = False) -> Upload:
    query = select(Upload).where(col(Upload.id) == upload_id, col(Upload.project_id) == project_id)
    upload = (await session.execute(query.with_for_update() if lock else query)).scalar_one_or_none()
    if upload is None:
        raise NotFound("There is no such upload for this key.", param="upload_id")
    return upload


def _check_pending(upload: Upload) -> None:
    if get_upload_status(upload) != "pending":
        raise _upload_not_pending(upload)


def _upload_not_pending(upload: Upload) -> InvalidRequest:
    return InvalidRequest(
        f"This upload is {get_upload_status(upload)}; create another with POST /v1/uploads.",
        param="upload_id",
        code="invalid_state",
    )


async def _check_capacity(session: AsyncSession, upload: Upload, added_bytes: int) -> None:
    """Check that the upload can store another part. Raises ``InvalidRequest``.

    Every part may be sent twice, because a client that missed a response sends it again.
    """
    query = select(func.count(), func.coalesce(func.sum(col(UploadPart.bytes)), 0))
    count, total = (await session.execute(query.where(col(UploadPart.upload_id) == upload.id))).one()
    if count >= MAX_PARTS or total + added_bytes > 2 * upload.bytes:
        raise InvalidRequest(
            f"An upload may have at most {MAX_PARTS:,} parts and twice its declared {upload.bytes:,} bytes; create a "
            "new upload.",
            param="data",
            code="upload_too_large",
        )

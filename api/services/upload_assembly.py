"""Assembly of an upload's parts into its file, from blob to blob, a few megabytes at a time."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Sequence

from sqlalchemy import delete, select, update
from sqlmodel import col

from api.errors import InvalidRequest
from api.schemas.uploads import UploadCompleteIn
from api.services.quota import check_quota
from jobs.blob_keys import files_prefix
from jobs.resources import Resources
from jobs.retention.expiry import delete_blobs
from storage.access.audit import audit
from storage.access.keys import Principal
from storage.blobs import Blobs
from storage.errors import BlobNotFound
from storage.ids import new_id
from storage.tables import File, Upload, UploadPart

MAX_CONCURRENT_ASSEMBLIES = 2
"""Assemblies that one process runs; others wait. Each reads and writes up to
``max_assembled_bytes``."""


async def assemble_upload(resources: Resources, principal: Principal, upload: Upload, body: UploadCompleteIn) -> None:
    """Create the file, unless the upload ends first. Raises ``InvalidRequest``.

    The bytes are written first, then one transaction follows. Two concurrent requests that complete
    an upload both write a blob, and the one that finds the upload still pending keeps its blob.
    """
    parts_by_id = await _load_parts(resources, upload)
    # Checked after loading the parts, because the end of an upload deletes them.
    if not await _is_pending(resources, upload):
        return
    parts, file = _order_parts(upload, parts_by_id, body.part_ids), _build_file(upload)
    try:
        stored = await resources.blob_threads.run(
            resources.blobs.put_stream, file.blob_key, _read_chunks(resources.blobs, parts, body.md5)
        )
    except BlobNotFound:
        # If the upload has ended, its parts were deleted.
        if await _is_pending(resources, upload):
            raise
        return
    file.sha256, file.bytes = stored.sha256, stored.size
    try:
        unreferenced = await _complete(resources, principal, upload, file)
    except InvalidRequest:
        await delete_blobs(resources, [file.blob_key])
        raise
    await delete_blobs(resources, unreferenced)


async def _complete(resources: Resources, principal: Principal, upload: Upload, file: File) -> list[str]:
    """Complete the upload and return the keys of blobs without a reference.

    Raises ``InvalidRequest``.
    """
    async with resources.db.write() as session:
        if time.time() >= upload.expires_at:
            # The upload expired during the assembly, so its declared size no longer counts.
            await check_quota(session, principal, file.bytes)
        conditions = [col(Upload.id) == upload.id, col(Upload.status) == "pending"]
        statement = update(Upload).where(*conditions).values(status="completed", file_id=file.id)
        completed = (await session.execute(statement.returning(col(Upload.id)))).first() is not None
        if not completed:
            return [file.blob_key]
        session.add(file)
        await audit(session, principal, "upload.completed", upload.id, detail={"file": file.id})
        delete_parts = delete(UploadPart).where(col(UploadPart.upload_id) == upload.id)
        return list((await session.execute(delete_parts.returning(col(UploadPart.blob_key)))).scalars())


async def _is_pending(resources: Resources, upload: Upload) -> bool:
    async with resources.db.read() as session:
        query = select(col(Upload.status)).where(col(Upload.id) == upload.id)
        return (await session.execute(query)).scalar_one() == "pending"


async def _load_parts(resources: Resources, upload: Upload) -> dict[str, UploadPart]:
    async with resources.db.read() as session:
        query = select(UploadPart).where(col(UploadPart.upload_id) == upload.id)
        return {part.id: part for part in (await session.execute(query)).scalars()}


def _order_parts(upload: Upload, parts: dict[str, UploadPart], part_ids: Sequence[str]) -> list[UploadPart]:
    """Return the parts in the order of ``part_ids``.

    Raises ``InvalidRequest`` if an id is unknown or repeated, or if the sizes do not add up.
    """
    seen: set[str] = set()
    for index, part_id in enumerate(part_ids):
        if part_id not in parts:
            raise InvalidRequest(
                "This upload has no such part; send the ids that POST /v1/uploads/{upload_id}/parts returned.",
                param=f"part_ids.{index}",
                code="part_not_found",
            )
        if part_id in seen:
            raise InvalidRequest("This part is listed twice; list each part once.", param=f"part_ids.{index}")
        seen.add(part_id)
    chosen = [parts[part_id] for part_id in part_ids]
    total = sum(part.bytes for part in chosen)
    if total != upload.bytes:
        raise InvalidRequest(
            f"These parts have {total:,} bytes in total, but the upload was declared with {upload.bytes:,}; list the "
            "missing parts, or create a new upload with the right number.",
            param="part_ids",
            code="bytes_mismatch",
        )
    return chosen


def _build_file(upload: Upload) -> File:
    file_id, now = new_id("file"), time.time()
    return File(
        id=file_id,
        project_id=upload.project_id,
        created_at=now,
        filename=upload.filename,
        purpose=upload.purpose,
        bytes=upload.bytes,
        sha256="",
        blob_key=f"{files_prefix(upload.project_id)}/{file_id}",
        expires_at=None if upload.file_expires_after is None else now + upload.file_expires_after,
    )


def _read_chunks(blobs: Blobs, parts: Sequence[UploadPart], md5: str | None) -> Iterator[bytes]:
    """Yield the file's bytes.

    Raises ``InvalidRequest`` at the end if their MD5 differs from ``md5``.
    """
    digest = hashlib.md5(usedforsecurity=False)
    for part in parts:
        for chunk in blobs.stream(part.blob_key, part.sha256):
            digest.update(chunk)
            yield chunk
    if md5 is not None and digest.hexdigest() != md5.lower():
        raise InvalidRequest(
            "The MD5 of the parts in this order differs; correct their order, or send the damaged part again.",
            param="md5",
            code="md5_mismatch",
        )

"""From the parts of an upload to its file, blob to blob, a few megabytes at a time."""

from __future__ import annotations

import asyncio
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
"""Assemblies that one process runs; the others wait. Each reads and writes up to ``max_assembled_bytes``."""


async def assemble_upload(resources: Resources, principal: Principal, upload: Upload, body: UploadCompleteIn) -> None:
    """Make the file, unless somebody else completes, cancels or expires the upload first. Raises ``InvalidRequest``.

    The bytes come first, then one transaction. Two that complete an upload at once both write a blob, and the one
    that finds the upload still pending keeps its own.
    """
    there = await _load_parts(resources, upload)
    # In this order: whoever ends an upload drops its parts with it.
    if not await _is_pending(resources, upload):
        return
    parts, file = _order_parts(upload, there, body.part_ids), _build_file(upload)
    try:
        stored = await asyncio.to_thread(
            resources.blobs.put_stream, file.blob_key, _read_chunks(resources.blobs, parts, body.md5)
        )
    except BlobNotFound:
        # Whoever ended the upload removed its parts.
        if await _is_pending(resources, upload):
            raise
        return
    file.sha256, file.bytes = stored.sha256, stored.size
    try:
        unnamed = await _complete(resources, principal, upload, file)
    except InvalidRequest:
        await delete_blobs(resources.blobs, [file.blob_key])
        raise
    await delete_blobs(resources.blobs, unnamed)


async def _complete(resources: Resources, principal: Principal, upload: Upload, file: File) -> list[str]:
    """The keys of the bytes that nothing names now. Raises ``InvalidRequest``."""
    async with resources.db.write() as session:
        if time.time() >= upload.expires_at:
            # While its parts were put together it ceased to count as what it declared.
            await check_quota(session, principal, file.bytes)
        mine = [col(Upload.id) == upload.id, col(Upload.status) == "pending"]
        completed = update(Upload).where(*mine).values(status="completed", file_id=file.id).returning(col(Upload.id))
        won = (await session.execute(completed)).first() is not None
        if not won:
            return [file.blob_key]
        session.add(file)
        await audit(session, principal, "upload.completed", upload.id, detail={"file": file.id})
        gone = delete(UploadPart).where(col(UploadPart.upload_id) == upload.id)
        return list((await session.execute(gone.returning(col(UploadPart.blob_key)))).scalars())


async def _is_pending(resources: Resources, upload: Upload) -> bool:
    async with resources.db.read() as session:
        query = select(col(Upload.status)).where(col(Upload.id) == upload.id)
        return (await session.execute(query)).scalar_one() == "pending"


async def _load_parts(resources: Resources, upload: Upload) -> dict[str, UploadPart]:
    async with resources.db.read() as session:
        query = select(UploadPart).where(col(UploadPart.upload_id) == upload.id)
        return {part.id: part for part in (await session.execute(query)).scalars()}


def _order_parts(upload: Upload, parts: dict[str, UploadPart], part_ids: Sequence[str]) -> list[UploadPart]:
    """Raises ``InvalidRequest`` for ids that are not the upload's or stand twice, and for another sum of bytes."""
    seen: set[str] = set()
    for place, part_id in enumerate(part_ids):
        if part_id not in parts:
            raise InvalidRequest(
                "This upload has no such part; send the ids that POST /v1/uploads/{upload_id}/parts answered.",
                param=f"part_ids.{place}",
                code="part_not_found",
            )
        if part_id in seen:
            raise InvalidRequest("This part stands there twice; name each once.", param=f"part_ids.{place}")
        seen.add(part_id)
    chosen = [parts[part_id] for part_id in part_ids]
    total = sum(part.bytes for part in chosen)
    if total != upload.bytes:
        raise InvalidRequest(
            f"These parts have {total:,} bytes together and the upload was declared with {upload.bytes:,}; name the "
            "missing parts, or create the upload anew with the right number.",
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
    """The file's bytes. Raises ``InvalidRequest`` at their end where they have another md5."""
    digest = hashlib.md5(usedforsecurity=False)
    for part in parts:
        for chunk in blobs.stream(part.blob_key, part.sha256):
            digest.update(chunk)
            yield chunk
    if md5 is not None and digest.hexdigest() != md5.lower():
        raise InvalidRequest(
            "The parts in this order have another md5; correct their order, or send the damaged part again.",
            param="md5",
            code="md5_mismatch",
        )

"""What goes by itself: expired files, uploads that nobody completed, and bytes that no row names.

The row goes first, then the bytes: what a crash leaves between the two is named by no row, and swept. Every part is
safe to run twice, at once, or never.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable, Iterator
from itertools import islice

from sqlalchemy import delete, func, select, update
from sqlmodel import col

from jobs.blob_keys import files_prefix, uploads_prefix
from jobs.resources import Resources
from jobs.retention.file_references import build_reference_queries
from storage.blobs import BlobInfo, Blobs
from storage.clock import db_now
from storage.errors import StorageUnavailable
from storage.tables import File, Project, Upload, UploadPart

log = logging.getLogger("luthier.expiry")

STALE_SECONDS = 3600
"""Bytes without a row are left alone for so long: their writer may be about to insert it."""
ASSEMBLY_GRACE_SECONDS = 900
"""An upload asked to complete in time may still be reading its parts for so long."""
_BATCH_SIZE = 100


async def expire(resources: Resources) -> None:
    """One round: what is due, and a look for orphans in one project taken at random."""
    await expire_files(resources)
    await expire_uploads(resources)
    async with resources.db.read() as session:
        anyone = select(col(Project.id)).order_by(func.random()).limit(1)
        project_id = (await session.execute(anyone)).scalar_one_or_none()
    if project_id is not None:
        await sweep_orphans(resources, project_id)
    await asyncio.to_thread(resources.blobs.sweep, STALE_SECONDS)


async def expire_files(resources: Resources) -> int:
    """Delete expired files, but for those that a job or batch still needs. How many went."""
    needed = build_reference_queries(col(File.project_id), col(File.id)).values()
    due = [col(File.expires_at) <= db_now(), *(~query.exists() for query in needed)]
    async with resources.db.read() as session:
        ids = list((await session.execute(select(col(File.id)).where(*due).limit(_BATCH_SIZE))).scalars())
    keys = [key for file_id in ids if (key := await _expire_file(resources, file_id)) is not None]
    await delete_blobs(resources.blobs, keys)
    return len(keys)


async def _expire_file(resources: Resources, file_id: str) -> str | None:
    """The key of its bytes, which nothing names any more; None where something has come to need it."""
    async with resources.db.write() as session:
        # The lock first, in a statement of its own, so that the second sees what was committed meanwhile.
        file = (await session.execute(select(File).where(col(File.id) == file_id).with_for_update())).scalar()
        if file is None:
            return None
        for query in build_reference_queries(file.project_id, file.id).values():
            if (await session.execute(query.limit(1))).first() is not None:
                return None
        await session.execute(delete(File).where(col(File.id) == file_id))
    return file.blob_key


async def expire_uploads(resources: Resources) -> int:
    """Drop the parts of uploads that were not completed in time. How many uploads."""
    due = [col(Upload.status) == "pending", col(Upload.expires_at) <= db_now() - ASSEMBLY_GRACE_SECONDS]
    async with resources.db.read() as session:
        ids = list((await session.execute(select(col(Upload.id)).where(*due).limit(_BATCH_SIZE))).scalars())
    for upload_id in ids:
        async with resources.db.write() as session:
            mine = [col(Upload.id) == upload_id, col(Upload.status) == "pending"]
            await session.execute(update(Upload).where(*mine).values(status="expired"))
            gone = delete(UploadPart).where(col(UploadPart.upload_id) == upload_id).returning(col(UploadPart.blob_key))
            keys = list((await session.execute(gone)).scalars())
        await delete_blobs(resources.blobs, keys)
    return len(ids)


async def sweep_orphans(resources: Resources, project_id: str) -> int:
    """Delete the project's blobs of files and parts that have no row. How many there were."""
    swept = 0
    tables: dict[str, type[File] | type[UploadPart]] = {
        files_prefix(project_id): File,
        uploads_prefix(project_id): UploadPart,
    }
    for prefix, table in tables.items():
        blobs = resources.blobs.list(prefix)
        while batch := await asyncio.to_thread(_read_batch, blobs):
            old = {blob.key for blob in batch if time.time() - blob.modified_at > STALE_SECONDS}
            ids = [key.rpartition("/")[2] for key in old]
            async with resources.db.read() as session:
                named = await session.execute(select(col(table.blob_key)).where(col(table.id).in_(ids)))
            orphans = old.difference(named.scalars())
            await delete_blobs(resources.blobs, orphans)
            swept += len(orphans)
    return swept


def _read_batch(blobs: Iterator[BlobInfo]) -> list[BlobInfo]:
    return list(islice(blobs, 500))


async def delete_blobs(blobs: Blobs, keys: Iterable[str]) -> None:
    """Delete blobs that no row names. What cannot be deleted now is an orphan, and swept later."""
    for key in keys:
        try:
            await asyncio.to_thread(blobs.delete, key)
        except StorageUnavailable as error:
            log.warning("! %s stays for now: %s", key, error)

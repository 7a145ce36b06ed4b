"""Periodic cleanup: expired files, uploads that were not completed, and orphaned blobs.

Rows are deleted before bytes. A crash between the two leaves orphans, which are swept later. Every
function is safe to run twice, concurrently, or never.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator
from itertools import islice

from sqlalchemy import delete, func, select, update
from sqlmodel import col

from jobs.blob_keys import files_prefix, uploads_prefix
from jobs.resources import Resources
from jobs.retention.file_references import build_reference_queries
from storage.blobs import BlobInfo
from storage.clock import db_now
from storage.errors import StorageUnavailable
from storage.tables import File, Project, Upload, UploadPart

log = logging.getLogger("luthier.expiry")

STALE_SECONDS = 3600
"""Minimum age of an orphan. The writer of a younger blob may be about to insert its row."""
ASSEMBLY_GRACE_SECONDS = 900
"""An upload whose completion began in time may read its parts for this long after it expired."""
_BATCH_SIZE = 100


async def expire(resources: Resources) -> None:
    """Run one cleanup round. Orphans are swept in one randomly chosen project."""
    await expire_files(resources)
    await expire_uploads(resources)
    async with resources.db.read() as session:
        query = select(col(Project.id)).order_by(func.random()).limit(1)
        project_id = (await session.execute(query)).scalar_one_or_none()
    if project_id is not None:
        await sweep_orphans(resources, project_id)
    await resources.blob_threads.run(resources.blobs.sweep, STALE_SECONDS)


async def expire_files(resources: Resources) -> int:
    """Delete expired files that no job or batch needs. Return their number."""
    references = build_reference_queries(col(File.project_id), col(File.id)).values()
    due = [col(File.expires_at) <= db_now(), *(~query.exists() for query in references)]
    async with resources.db.read() as session:
        ids = list((await session.execute(select(col(File.id)).where(*due).limit(_BATCH_SIZE))).scalars())
    keys = [key for file_id in ids if (key := await _expire_file(resources, file_id)) is not None]
    await delete_blobs(resources, keys)
    return len(keys)


async def _expire_file(resources: Resources, file_id: str) -> str | None:
    """Delete the file's row and return the key of its blob, or None if the file is in use."""
    async with resources.db.write() as session:
        # Lock in a separate first statement, so that the next one sees what was committed before.
        file = (await session.execute(select(File).where(col(File.id) == file_id).with_for_update())).scalar()
        if file is None:
            return None
        for query in build_reference_queries(file.project_id, file.id).values():
            if (await session.execute(query.limit(1))).first() is not None:
                return None
        await session.execute(delete(File).where(col(File.id) == file_id))
    return file.blob_key


async def expire_uploads(resources: Resources) -> int:
    """Delete the parts of uploads that were not completed in time. Return the number of uploads."""
    due = [col(Upload.status) == "pending", col(Upload.expires_at) <= db_now() - ASSEMBLY_GRACE_SECONDS]
    async with resources.db.read() as session:
        ids = list((await session.execute(select(col(Upload.id)).where(*due).limit(_BATCH_SIZE))).scalars())
    for upload_id in ids:
        async with resources.db.write() as session:
            pending = [col(Upload.id) == upload_id, col(Upload.status) == "pending"]
            await session.execute(update(Upload).where(*pending).values(status="expired"))
            parts = delete(UploadPart).where(col(UploadPart.upload_id) == upload_id).returning(col(UploadPart.blob_key))
            keys = list((await session.execute(parts)).scalars())
        await delete_blobs(resources, keys)
    return len(ids)


async def sweep_orphans(resources: Resources, project_id: str) -> int:
    """Delete the project's file and part blobs that have no row. Return their number."""
    swept = 0
    tables: dict[str, type[File] | type[UploadPart]] = {
        files_prefix(project_id): File,
        uploads_prefix(project_id): UploadPart,
    }
    for prefix, table in tables.items():
        blobs = resources.blobs.list(prefix)
        while batch := await resources.blob_threads.run(_read_batch, blobs):
            stale = {blob.key for blob in batch if time.time() - blob.modified_at > STALE_SECONDS}
            ids = [key.rpartition("/")[2] for key in stale]
            async with resources.db.read() as session:
                referenced = await session.execute(select(col(table.blob_key)).where(col(table.id).in_(ids)))
            orphans = stale.difference(referenced.scalars())
            await delete_blobs(resources, orphans)
            swept += len(orphans)
    return swept


def _read_batch(blobs: Iterator[BlobInfo]) -> list[BlobInfo]:
    return list(islice(blobs, 500))


async def delete_blobs(resources: Resources, keys: Iterable[str]) -> None:
    """Delete blobs that no row refers to. Blobs that cannot be deleted now are swept later."""
    for key in keys:
        try:
            await resources.blob_threads.run(resources.blobs.delete, key)
        except StorageUnavailable as error:
            log.warning("! cannot delete %s yet: %s", key, error)

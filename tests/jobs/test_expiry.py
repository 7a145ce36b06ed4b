"""Expiry of files, uploads and orphaned blobs, on both databases."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select
from sqlmodel import SQLModel, col

from jobs import blob_keys
from jobs.lifecycle import transitions
from jobs.resources import Resources, open_resources
from jobs.retention import expiry
from storage.db import Database
from storage.ids import new_id
from storage.settings import Settings
from storage.tables import Batch, File, Upload, UploadPart
from tests.jobs.conftest import MakeJob

pytestmark = [pytest.mark.anyio, pytest.mark.integration]

LONG_AGO = time.time() - 100_000


@pytest.fixture
async def resources(database_url: str, tmp_path: Path) -> AsyncIterator[Resources]:
    async with open_resources(Settings(home=tmp_path, database_url=database_url)) as resources:
        yield resources


async def _insert(db: Database, *rows: SQLModel) -> None:
    async with db.write() as session:
        for row in rows:
            session.add(row)
            await session.flush()


def _put_blob(resources: Resources, key: str, old: bool = False) -> str:
    resources.blobs.put_bytes(key, b"abc")
    if old:
        os.utime(resources.settings.home / "blobs" / key, (LONG_AGO, LONG_AGO))
    return key


async def _insert_file(resources: Resources, project_id: str, **values: Any) -> File:
    file_id = new_id("file")
    key = _put_blob(resources, f"{blob_keys.files_prefix(project_id)}/{file_id}", old=True)
    defaults: dict[str, Any] = {"filename": "a", "purpose": "fine-tune", "bytes": 3, "sha256": "0", "blob_key": key}
    file = File(id=file_id, project_id=project_id, created_at=LONG_AGO, **{**defaults, **values})
    await _insert(resources.db, file)
    return file


async def _insert_upload(
    resources: Resources, project_id: str, expires_at: float, status: str = "pending"
) -> tuple[Upload, str]:
    upload = Upload(
        id=new_id("upload"),
        project_id=project_id,
        created_at=LONG_AGO,
        expires_at=expires_at,
        filename="a",
        mime_type="b",
        purpose="fine-tune",
        bytes=3,
        status=status,
    )
    part_id = new_id("part")
    key = _put_blob(resources, f"{blob_keys.uploads_prefix(project_id)}/{upload.id}/{part_id}", old=True)
    part = UploadPart(id=part_id, upload_id=upload.id, created_at=LONG_AGO, bytes=3, sha256="0", blob_key=key)
    await _insert(resources.db, upload, part)
    return upload, key


def _list_blob_keys(resources: Resources) -> set[str]:
    return {blob.key for blob in resources.blobs.list("projects")}


async def _list_ids(resources: Resources, table: Any) -> set[str]:
    async with resources.db.read() as session:
        return set((await session.execute(select(table.id))).scalars())


async def test_an_expired_file_is_deleted_with_its_bytes(resources: Resources, project_id: str) -> None:
    expired = await _insert_file(resources, project_id, expires_at=time.time() - 1)
    retained = [
        await _insert_file(resources, project_id),
        await _insert_file(resources, project_id, expires_at=time.time() + 60),
    ]
    assert await expiry.expire_files(resources) == 1
    assert await expiry.expire_files(resources) == 0
    assert await _list_ids(resources, File) == {file.id for file in retained}
    assert expired.blob_key not in _list_blob_keys(resources)
    assert _list_blob_keys(resources) == {file.blob_key for file in retained}


@pytest.mark.parametrize("column", ["training_file", "validation_file", "general_file"])
async def test_a_job_keeps_its_files_until_it_ends(
    resources: Resources, project_id: str, make_job: MakeJob, column: str
) -> None:
    file = await _insert_file(resources, project_id, expires_at=LONG_AGO)
    job = await make_job(**{column: file.id})
    assert await expiry.expire_files(resources) == 0
    assert _list_blob_keys(resources) == {file.blob_key}
    async with resources.db.write() as session:
        await transitions.cancel(session, project_id, job.id)
    assert await expiry.expire_files(resources) == 1
    assert _list_blob_keys(resources) == set()


@pytest.mark.parametrize(("status", "gone"), [("validating", 0), ("finalizing", 0), ("expired", 1), ("failed", 1)])
async def test_a_batch_keeps_its_file_until_it_ends(
    resources: Resources, project_id: str, status: str, gone: int
) -> None:
    file = await _insert_file(resources, project_id, expires_at=LONG_AGO, purpose="batch")
    batch = Batch(
        id=new_id("batch"),
        project_id=project_id,
        created_at=LONG_AGO,
        endpoint="/v1/completions",
        input_file_id=file.id,
        completion_window="24h",
        status=status,
        expires_at=time.time(),
    )
    await _insert(resources.db, batch)
    assert await expiry.expire_files(resources) == gone


async def test_files_in_use_do_not_delay_the_others(
    resources: Resources, project_id: str, make_job: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files in use do not count toward the batch size of a round."""
    monkeypatch.setattr(expiry, "_BATCH_SIZE", 2)
    used = await _insert_file(resources, project_id, expires_at=LONG_AGO)
    await make_job(training_file=used.id)
    for _ in range(3):
        await _insert_file(resources, project_id, expires_at=LONG_AGO)
    assert await expiry.expire_files(resources) == 2
    assert await expiry.expire_files(resources) == 1
    assert await _list_ids(resources, File) == {used.id}


async def test_a_file_that_comes_into_use_is_retained(resources: Resources, project_id: str, make_job: MakeJob) -> None:
    file = await _insert_file(resources, project_id, expires_at=LONG_AGO)
    await make_job(training_file=file.id)
    assert await expiry._expire_file(resources, file.id) is None
    assert await _list_ids(resources, File) == {file.id}


async def test_an_upload_that_was_not_completed_loses_its_parts(resources: Resources, project_id: str) -> None:
    late, _ = await _insert_upload(resources, project_id, LONG_AGO)
    # A completion may still read the parts of the first one, and the second one has not expired.
    retained = [await _insert_upload(resources, project_id, time.time() + seconds) for seconds in (-10, 60)]
    assert await expiry.expire_uploads(resources) == 1
    assert await expiry.expire_uploads(resources) == 0
    async with resources.db.read() as session:
        assert (await session.get_one(Upload, late.id)).status == "expired"
        owners = set((await session.execute(select(col(UploadPart.upload_id)))).scalars())
    assert owners == {upload.id for upload, _ in retained}
    assert _list_blob_keys(resources) == {key for _, key in retained}


async def test_bytes_without_a_row_are_swept_once_they_are_old(resources: Resources, project_id: str) -> None:
    file = await _insert_file(resources, project_id)
    _, part = await _insert_upload(resources, project_id, time.time() + 60)
    files, uploads = blob_keys.files_prefix(project_id), blob_keys.uploads_prefix(project_id)
    for key in (f"{files}/file-lost", f"{uploads}/upload_lost/part_lost", f"{uploads}/upload_lost/{file.id}"):
        _put_blob(resources, key, old=True)
    fresh = _put_blob(resources, f"{files}/file-fresh")
    others = {
        _put_blob(resources, "projects/other/files/file-x", old=True),
        _put_blob(resources, "projects/p/jobs/j/a1", old=True),
    }
    assert await expiry.sweep_orphans(resources, project_id) == 3
    assert _list_blob_keys(resources) == {file.blob_key, part, fresh, *others}


async def test_a_round_does_everything_and_may_run_concurrently(resources: Resources, project_id: str) -> None:
    await _insert_file(resources, project_id, expires_at=LONG_AGO)
    await _insert_upload(resources, project_id, LONG_AGO)
    _put_blob(resources, f"{blob_keys.files_prefix(project_id)}/file-lost", old=True)
    unfinished = resources.settings.home / "blobs" / ".aside" / "left"
    unfinished.write_bytes(b"x")
    os.utime(unfinished, (LONG_AGO, LONG_AGO))
    await asyncio.gather(expiry.expire(resources), expiry.expire(resources))
    assert _list_blob_keys(resources) == set()
    assert not unfinished.exists()

"""Keys of blobs: built for rows, parsed back, and used by the code that stores a job's blobs."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import select, update
from sqlmodel import col

from jobs.batches import parts, store
from jobs.batches.responses import BatchResponse
from jobs.blob_keys import (
    JobPath,
    attempt_prefix,
    batch_prefix,
    files_prefix,
    job_prefix,
    parse_job_path,
    uploads_prefix,
)
from jobs.lifecycle import transitions
from jobs.lifecycle.states import QUEUED
from jobs.lifecycle.transitions import Claim
from jobs.metrics.result_files import store_result_files
from jobs.resources import Resources, open_resources
from jobs.runner import recorder
from storage.blobs.base import validate_key
from storage.errors import InvalidBlobKey
from storage.folders import MANIFEST_FILE, delete_folder
from storage.ids import new_id
from storage.settings import Settings
from storage.tables import Batch, BatchPart, Checkpoint, Job
from tests.jobs.conftest import MakeJob
from training import run_events

pytestmark = [pytest.mark.anyio, pytest.mark.integration]


def build_job(project_id: str, job_id: str) -> Job:
    return Job(id=job_id, project_id=project_id)


def build_batch(project_id: str) -> Batch:
    return Batch(
        id=new_id("batch"),
        project_id=project_id,
        created_at=time.time(),
        endpoint="/v1/chat/completions",
        input_file_id="file-x",
        completion_window="24h",
        expires_at=time.time() + 60,
    )


def test_the_prefixes_have_the_documented_form() -> None:
    job, batch = build_job("proj_a", "ftjob-b"), Batch(id="batch_c", project_id="proj_a")
    assert files_prefix("proj_a") == "projects/proj_a/files"
    assert uploads_prefix("proj_a") == "projects/proj_a/uploads"
    assert batch_prefix(batch) == "projects/proj_a/batches/batch_c"
    assert job_prefix(job) == "projects/proj_a/jobs/ftjob-b"
    assert attempt_prefix(job, 3) == "projects/proj_a/jobs/ftjob-b/a3"


def test_ids_of_the_server_make_valid_keys() -> None:
    for _ in range(50):
        project_id = new_id("project")
        job = build_job(project_id, new_id("job"))
        for prefix in (
            attempt_prefix(job, 1),
            batch_prefix(build_batch(project_id)),
            f"{files_prefix(project_id)}/{new_id('file')}",
            f"{uploads_prefix(project_id)}/{new_id('upload')}/{new_id('part')}",
        ):
            assert validate_key(f"{prefix}/x") == f"{prefix}/x"


def test_an_id_that_leaves_its_folder_makes_no_valid_key() -> None:
    for hostile in ("..", "../proj_b", "", ".hidden", "a\x00b"):
        with pytest.raises(InvalidBlobKey):
            validate_key(f"{files_prefix(hostile)}/file-x")


def test_every_prefix_is_of_one_project_and_kind() -> None:
    prefixes = [
        f"{prefix}/"
        for project_id in ("proj_a", "proj_ab")
        for prefix in (
            files_prefix(project_id),
            uploads_prefix(project_id),
            batch_prefix(Batch(id="batch_c", project_id=project_id)),
            *(attempt_prefix(build_job(project_id, job_id), 1) for job_id in ("ftjob-a", "ftjob-ab")),
            attempt_prefix(build_job(project_id, "ftjob-a"), 11),
        )
    ]
    contained = [(one, other) for one in prefixes for other in prefixes if one != other and other.startswith(one)]
    assert contained == []


@pytest.mark.parametrize("rest", ["", "/a1", "/a1/result", "/a12/step-30", "/a12/step-30/model/adapter.safetensors"])
def test_a_path_in_a_job_is_parsed(rest: str) -> None:
    job = build_job(new_id("project"), new_id("job"))
    assert parse_job_path(job_prefix(job) + rest) == JobPath(job.project_id, job.id)


@pytest.mark.parametrize("prefix", ["", "projects", "projects/proj_a", "projects/proj_a/jobs"])
def test_a_path_outside_a_job_is_an_error(prefix: str) -> None:
    with pytest.raises(ValueError, match="unpack"):
        parse_job_path(prefix)


@pytest.fixture
async def resources(database_url: str, blob_url: str, tmp_path: Path) -> AsyncIterator[Resources]:
    async with open_resources(Settings(home=tmp_path, database_url=database_url, blob_url=blob_url)) as resources:
        yield resources


def list_keys(resources: Resources) -> set[str]:
    return {blob.key for blob in resources.blobs.list("projects")}


async def claim_job(resources: Resources, make_job: MakeJob) -> tuple[Claim, Job]:
    job = await make_job()
    async with resources.db.write() as session:
        await session.execute(update(Job).where(col(Job.id) == job.id).values(state=QUEUED))
    async with resources.db.write() as session:
        claimed = await transitions.claim(session, "train", "w", 60.0)
    assert claimed is not None
    return claimed


async def store_job_blobs(resources: Resources, claim: Claim, job: Job, folder: Path) -> list[str]:
    """Store a checkpoint and the result files, and return the prefixes and keys of their rows."""
    (folder / "checkpoint" / "model").mkdir(parents=True)
    (folder / "checkpoint" / "model" / "adapter.safetensors").write_bytes(b"weights")
    event = run_events.Checkpoint(step=5, path="checkpoint", keep=True)
    await recorder.record_checkpoint(resources, claim, job, folder, event)
    files = await store_result_files(resources, claim, job)
    async with resources.db.read() as session:
        query = select(col(Checkpoint.prefix)).where(col(Checkpoint.job_id) == job.id)
        return [*(await session.execute(query)).scalars(), *(file.blob_key for file in files)]


async def test_the_keys_of_a_jobs_blobs_lead_back_to_the_job(
    resources: Resources, make_job: MakeJob, tmp_path: Path
) -> None:
    claim, job = await claim_job(resources, make_job)
    other_claim, other = await claim_job(resources, make_job)
    stored = await store_job_blobs(resources, claim, job, tmp_path / "one")
    first_keys = list_keys(resources)
    await store_job_blobs(resources, other_claim, other, tmp_path / "two")
    assert len(stored) == 3
    for key in (*stored, *first_keys):
        assert parse_job_path(key) == JobPath(job.project_id, job.id)
        assert key.startswith(f"{attempt_prefix(job, 1)}/")
    assert f"{attempt_prefix(job, 1)}/step-5/{MANIFEST_FILE}" in first_keys
    assert {parse_job_path(key).job_id for key in list_keys(resources) - first_keys} == {other.id}
    delete_folder(resources.blobs, job_prefix(other))
    assert list_keys(resources) == first_keys


async def test_two_attempts_write_different_keys(resources: Resources, make_job: MakeJob, tmp_path: Path) -> None:
    claim, job = await claim_job(resources, make_job)
    await store_job_blobs(resources, claim, job, tmp_path / "one")
    first_keys = list_keys(resources)
    async with resources.db.write() as session:
        await transitions.transition(session, claim, QUEUED, [])
    async with resources.db.write() as session:
        claimed = await transitions.claim(session, "train", "w", 60.0)
    assert claimed is not None
    # The checkpoint of the earlier attempt is replaced, together with its row.
    keys = await store_job_blobs(resources, *claimed, tmp_path / "two")
    assert all(key.startswith(f"{attempt_prefix(job, 2)}/") for key in keys)
    second_keys = list_keys(resources) - first_keys
    assert {key.replace("/a2/", "/a1/") for key in second_keys} == first_keys


async def test_the_parts_of_a_batch_are_in_its_folder(resources: Resources, project_id: str, tmp_path: Path) -> None:
    async with resources.db.write() as session:
        session.add(build_batch(project_id))
    async with resources.db.write() as session:
        claimed = await store.claim(session, "w", 60.0)
    assert claimed is not None
    claim, batch = claimed
    for first in (0, 2):
        part = parts.Part(tmp_path, first)
        part.add(BatchResponse(line=b"{}\n", model="starter"))
        part.add(BatchResponse(line=b"[]\n"))
        batch = await parts.commit(resources, claim, batch, part)
    async with resources.db.read() as session:
        rows = (await session.execute(select(BatchPart).order_by(col(BatchPart.first_request)))).scalars().all()
    keys = [entry["key"] for row in rows for entry in (row.output, row.errors) if entry]
    folder = f"{batch_prefix(batch)}/a1"
    assert keys == [f"{folder}/{first}-{kind}.jsonl" for first in (0, 2) for kind in ("output", "errors")]
    assert set(keys) == list_keys(resources)
    output, _ = await parts.store_output_files(resources, batch, None)
    assert output is not None
    assert output.blob_key == f"{files_prefix(project_id)}/{output.id}"
    delete_folder(resources.blobs, batch_prefix(batch))
    assert set(keys) & list_keys(resources) == set()
    assert output.blob_key in list_keys(resources)

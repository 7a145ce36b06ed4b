"""What the clients' own tests name: keys, files, jobs and the rest, as ordinary rows in the states they can be used in.

The ids are those of the tests, gathered from every version that is run. The server knows none of them: it finds rows.
"""

from __future__ import annotations

import time
from typing import Any

from sqlalchemy import delete
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import SQLModel

from storage.access import keys
from storage.blobs import Blobs
from storage.tables import (
    METADATA,
    ApiKey,
    AuditEntry,
    Batch,
    Checkpoint,
    CheckpointPermission,
    Event,
    File,
    Job,
    Model,
    Organization,
    Project,
    Upload,
    UploadPart,
    Webhook,
)
from tests.api.stack import FAKE_SHA256, build_job

CONTENT = b"More bytes than the part that a test adds."
API_KEYS = {"My API Key": "ours", "My Admin API Key": "ours"}
"""Key -> its project."""
PROJECT_IDS = ("ours", "project_id", "string", "after")
JOB_ID = "ft-AF1WoRqd3aJAHsqc9NY7iL8F"
JOB_IDS = (JOB_ID, "string", "after")
FILE_PURPOSES = {
    **dict.fromkeys(["file_id", "after"], "assistants"),
    "file-abc123": "fine-tune",
    "input_file_id": "batch",
    # Uploaded for a batch, and retrieved and deleted as a file.
    "string": "batch",
}
"""File -> its purpose."""
EVENT_IDS = ("string", "after")
"""Of the first job; its checkpoints have the same ids."""
BATCH_IDS = ("batch_id", "string", "after")
UPLOAD_ID, PART_ID = "upload_abc123", "string"
SHARED_MODEL_ID = "ft:gpt-4o-mini-2024-07-18:org:weather:B7R9VjQd"
MODEL_IDS = ("ft:gpt-4o-mini:acemeco:suffix:abc123", SHARED_MODEL_ID, JOB_ID)
"""The tests look up a checkpoint's permissions by the id of a job."""
PERMISSIONS = {
    "cp_zc4Q7MP6XxulcVzj4MZdwsAB": (SHARED_MODEL_ID, "project_id"),
    "after": (JOB_ID, "project_id"),
    "string": (JOB_ID, "string"),
}
"""Permission -> the model, and the project that may use it."""
WEBHOOK_ID = "whe_123"
CREATED_AT = time.time()


async def reset_rows(session: AsyncSession, blobs: Blobs, webhook_url: str) -> None:
    """All rows as they were, in one transaction: tests delete and cancel what others read."""
    for table in reversed(METADATA.sorted_tables):
        # The migration made the organization.
        if table.name != Organization.__tablename__:
            await session.execute(delete(table))
    for rows in (
        build_projects(),
        build_api_keys(),
        build_files(blobs),
        build_jobs(),
        build_models(),
        build_upload(blobs),
        build_other_rows(webhook_url),
    ):
        session.add_all(rows)
        await session.flush()


def build_projects() -> list[SQLModel]:
    return [
        Project(id=each, organization_id=keys.DEFAULT_ORGANIZATION, name=each, created_at=CREATED_AT)
        for each in PROJECT_IDS
    ]


def build_api_keys() -> list[SQLModel]:
    values = {**API_KEYS, "api_key_id": "project_id", "after": "project_id"}
    return [
        ApiKey(id=key, project_id=project, name=key, prefix=key[:4], hash=keys.hash_key(key), created_at=CREATED_AT)
        for key, project in values.items()
    ]


def build_files(blobs: Blobs) -> list[SQLModel]:
    return [
        File(
            id=each,
            purpose=purpose,
            filename=f"{each}.jsonl",
            **_get_owner_columns(),
            **_store_content(blobs, f"files/{each}"),
        )
        for each, purpose in FILE_PURPOSES.items()
    ]


def build_jobs() -> list[SQLModel]:
    """Queued: such a job can be cancelled, paused and resumed."""
    return [
        build_job(
            "ours", id=each, created_at=CREATED_AT, meta={"foo": "string"}, last_seq=len(EVENT_IDS) * (each == JOB_ID)
        )
        for each in JOB_IDS
    ]


def build_models() -> list[SQLModel]:
    """Each of a job of its own."""
    made = [build_job("ours", id=f"job-{each}", state="succeeded", finished_at=CREATED_AT) for each in MODEL_IDS]
    return [*made, *(_build_model(name, job) for name, job in zip(MODEL_IDS, made, strict=True))]


def _build_model(name: str, job: Job) -> Model:
    job.fine_tuned_model = name
    return Model(
        id=name,
        job_id=job.id,
        base_model=job.base_model,
        task=job.task,
        update="lora",
        prefix=f"projects/ours/jobs/{job.id}",
        manifest_sha256=FAKE_SHA256,
        **_get_owner_columns(),
    )


def build_upload(blobs: Blobs) -> list[SQLModel]:
    """Pending, and all there."""
    part = _store_content(blobs, f"uploads/{UPLOAD_ID}/{PART_ID}")
    pending = Upload(
        id=UPLOAD_ID,
        expires_at=CREATED_AT + 10**6,
        filename="filename",
        mime_type="mime_type",
        purpose="assistants",
        bytes=len(CONTENT),
        **_get_owner_columns(),
    )
    return [pending, UploadPart(id=PART_ID, upload_id=UPLOAD_ID, created_at=CREATED_AT, **part)]


def build_other_rows(webhook_url: str) -> list[SQLModel]:
    rows: list[SQLModel] = [
        Batch(
            id=each,
            endpoint="/v1/chat/completions",
            input_file_id="file-gone",
            completion_window="24h",
            expires_at=CREATED_AT + 86_400,
            **_get_owner_columns(),
        )
        for each in BATCH_IDS
    ]
    for place, each in enumerate(EVENT_IDS, 1):
        rows += [
            Event(id=each, job_id=JOB_ID, seq=place, attempt=1, created_at=CREATED_AT, level="info", message=each),
            _build_checkpoint(each, place),
        ]
    rows += [
        CheckpointPermission(
            id=each, checkpoint_model=model, owner_project_id="ours", project_id=project, created_at=CREATED_AT
        )
        for each, (model, project) in PERMISSIONS.items()
    ]
    rows.append(
        AuditEntry(
            id="after",
            organization_id=keys.DEFAULT_ORGANIZATION,
            key_id="api_key_id",
            action="project.created",
            target="project_id",
            request_id="req_1",
            **_get_owner_columns(),
        )
    )
    hooked: dict[str, Any] = {"updated_at": CREATED_AT, "secret": "whsec_c2VjcmV0", "events": ["batch.completed"]}
    return [*rows, Webhook(id=WEBHOOK_ID, name="x", url=webhook_url, **hooked, **_get_owner_columns())]


def _build_checkpoint(checkpoint_id: str, step: int) -> Checkpoint:
    return Checkpoint(
        id=checkpoint_id,
        job_id=JOB_ID,
        step=step,
        attempt=1,
        prefix=f"projects/ours/jobs/{JOB_ID}/a1/step-{step}",
        manifest_sha256=FAKE_SHA256,
        published=True,
        metrics={"step": step, "train_loss": 1.5},
        **_get_owner_columns(),
    )


def _get_owner_columns() -> dict[str, Any]:
    return {"project_id": "ours", "created_at": CREATED_AT}


def _store_content(blobs: Blobs, name: str) -> dict[str, Any]:
    key = f"projects/ours/{name}"
    stored = blobs.put_bytes(key, CONTENT, exclusive=True)
    return {"blob_key": key, "bytes": stored.size, "sha256": stored.sha256}

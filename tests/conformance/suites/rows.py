"""Rows that the clients' own tests name: keys, files, jobs and others, in usable states.

The ids come from the tests of all versions that run. The server has no special case for them.
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
"""API key -> its project."""
PROJECT_IDS = ("ours", "project_id", "string", "after")
JOB_ID = "ft-AF1WoRqd3aJAHsqc9NY7iL8F"
JOB_IDS = (JOB_ID, "string", "after")
FILE_PURPOSES = {
    **dict.fromkeys(["file_id", "after"], "assistants"),
    "file-abc123": "fine-tune",
    "input_file_id": "batch",
    # Tests use it as a batch's input, and also retrieve and delete it as a file.
    "string": "batch",
}
"""File id -> its purpose."""
EVENT_IDS = ("string", "after")
"""Events of the first job. Its checkpoints have the same ids."""
BATCH_IDS = ("batch_id", "string", "after")
UPLOAD_ID, PART_ID = "upload_abc123", "string"
SHARED_MODEL_ID = "ft:gpt-4o-mini-2024-07-18:org:weather:B7R9VjQd"
MODEL_IDS = ("ft:gpt-4o-mini:acemeco:suffix:abc123", SHARED_MODEL_ID, JOB_ID)
"""Includes a job's id, because the tests look up a checkpoint's permissions by it."""
PERMISSIONS = {
    "cp_zc4Q7MP6XxulcVzj4MZdwsAB": (SHARED_MODEL_ID, "project_id"),
    "after": (JOB_ID, "project_id"),
    "string": (JOB_ID, "string"),
}
"""Permission id -> the model and the project that may use it."""
WEBHOOK_ID = "whe_123"
CREATED_AT = time.time()


async def reset_rows(session: AsyncSession, blobs: Blobs, webhook_url: str) -> None:
    """Restore all rows in one transaction, because tests delete and cancel what other tests
    read."""
    for table in reversed(METADATA.sorted_tables):
        # The migration created the organization.
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
        Project(id=project, organization_id=keys.DEFAULT_ORGANIZATION, name=project, created_at=CREATED_AT)
        for project in PROJECT_IDS
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
            id=file_id,
            purpose=purpose,
            filename=f"{file_id}.jsonl",
            **_get_owner_columns(),
            **_store_content(blobs, f"files/{file_id}"),
        )
        for file_id, purpose in FILE_PURPOSES.items()
    ]


def build_jobs() -> list[SQLModel]:
    """Build queued jobs, which can be cancelled, paused and resumed."""
    return [
        build_job(
            "ours",
            id=job_id,
            created_at=CREATED_AT,
            meta={"foo": "string"},
            last_seq=len(EVENT_IDS) * (job_id == JOB_ID),
        )
        for job_id in JOB_IDS
    ]


def build_models() -> list[SQLModel]:
    """Build models, each with its own job."""
    jobs = [build_job("ours", id=f"job-{name}", state="succeeded", finished_at=CREATED_AT) for name in MODEL_IDS]
    return [*jobs, *(_build_model(name, job) for name, job in zip(MODEL_IDS, jobs, strict=True))]


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
    """Build a pending upload with all of its bytes."""
    part = _store_content(blobs, f"uploads/{UPLOAD_ID}/{PART_ID}")
    upload = Upload(
        id=UPLOAD_ID,
        expires_at=CREATED_AT + 10**6,
        filename="filename",
        mime_type="mime_type",
        purpose="assistants",
        bytes=len(CONTENT),
        **_get_owner_columns(),
    )
    return [upload, UploadPart(id=PART_ID, upload_id=UPLOAD_ID, created_at=CREATED_AT, **part)]


def build_other_rows(webhook_url: str) -> list[SQLModel]:
    rows: list[SQLModel] = [
        Batch(
            id=batch_id,
            endpoint="/v1/chat/completions",
            input_file_id="file-gone",
            completion_window="24h",
            expires_at=CREATED_AT + 86_400,
            **_get_owner_columns(),
        )
        for batch_id in BATCH_IDS
    ]
    for seq, event_id in enumerate(EVENT_IDS, 1):
        rows += [
            Event(
                id=event_id, job_id=JOB_ID, seq=seq, attempt=1, created_at=CREATED_AT, level="info", message=event_id
            ),
            _build_checkpoint(event_id, seq),
        ]
    rows += [
        CheckpointPermission(
            id=permission_id, checkpoint_model=model, owner_project_id="ours", project_id=project, created_at=CREATED_AT
        )
        for permission_id, (model, project) in PERMISSIONS.items()
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
    webhook_values: dict[str, Any] = {
        "updated_at": CREATED_AT,
        "secret": "whsec_c2VjcmV0",
        "events": ["batch.completed"],
    }
    return [*rows, Webhook(id=WEBHOOK_ID, name="x", url=webhook_url, **webhook_values, **_get_owner_columns())]


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

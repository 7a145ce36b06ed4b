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
    Event,
    File,
    Job,
    Model,
    Organization,
    Permission,
    Project,
    Upload,
    UploadPart,
    Webhook,
)
from tests.api.stack import SHA, new_job

BYTES = b"More bytes than the part that a test adds."
KEYS = {"My API Key": "ours", "My Admin API Key": "ours"}
"""Key -> its project."""
PROJECTS = ("ours", "project_id", "string", "after")
JOB = "ft-AF1WoRqd3aJAHsqc9NY7iL8F"
JOBS = (JOB, "string", "after")
FILES = {
    **dict.fromkeys(["file_id", "after"], "assistants"),
    "file-abc123": "fine-tune",
    "input_file_id": "batch",
    # Uploaded for a batch, and retrieved and deleted as a file.
    "string": "batch",
}
"""File -> its purpose."""
EVENTS = ("string", "after")
"""Of the first job; its checkpoints have the same ids."""
BATCHES = ("batch_id", "string", "after")
UPLOAD, PART = "upload_abc123", "string"
SHARED = "ft:gpt-4o-mini-2024-07-18:org:weather:B7R9VjQd"
MODELS = ("ft:gpt-4o-mini:acemeco:suffix:abc123", SHARED, JOB)
"""The tests look up a checkpoint's permissions by the id of a job."""
PERMISSIONS = {
    "cp_zc4Q7MP6XxulcVzj4MZdwsAB": (SHARED, "project_id"),
    "after": (JOB, "project_id"),
    "string": (JOB, "string"),
}
"""Permission -> the model, and the project that may use it."""
WEBHOOK = "whe_123"
WHEN = time.time()


async def renew(session: AsyncSession, blobs: Blobs, hook: str) -> None:
    """All rows as they were, in one transaction: tests delete and cancel what others read."""
    for table in reversed(METADATA.sorted_tables):
        # The migration made the organization.
        if table.name != Organization.__tablename__:
            await session.execute(delete(table))
    for rows in (projects(), api_keys(), files(blobs), jobs(), models(), upload(blobs), others(hook)):
        session.add_all(rows)
        await session.flush()


def projects() -> list[SQLModel]:
    return [
        Project(id=each, organization_id=keys.DEFAULT_ORGANIZATION, name=each, created_at=WHEN) for each in PROJECTS
    ]


def api_keys() -> list[SQLModel]:
    values = {**KEYS, "api_key_id": "project_id", "after": "project_id"}
    return [
        ApiKey(id=key, project_id=project, name=key, prefix=key[:4], hash=keys.hashed(key), created_at=WHEN)
        for key, project in values.items()
    ]


def files(blobs: Blobs) -> list[SQLModel]:
    return [
        File(id=each, purpose=purpose, filename=f"{each}.jsonl", **_owned(), **_stored(blobs, f"files/{each}"))
        for each, purpose in FILES.items()
    ]


def jobs() -> list[SQLModel]:
    """Queued: such a job can be cancelled, paused and resumed."""
    return [
        new_job("ours", id=each, created_at=WHEN, meta={"foo": "string"}, last_seq=len(EVENTS) * (each == JOB))
        for each in JOBS
    ]


def models() -> list[SQLModel]:
    """Each of a job of its own."""
    made = [new_job("ours", id=f"job-{each}", state="succeeded", finished_at=WHEN) for each in MODELS]
    return [*made, *(_model(name, job) for name, job in zip(MODELS, made, strict=True))]


def _model(name: str, job: Job) -> Model:
    job.fine_tuned_model = name
    return Model(
        id=name,
        job_id=job.id,
        base_model=job.base_model,
        task=job.task,
        update="lora",
        prefix=f"projects/ours/jobs/{job.id}",
        manifest_sha256=SHA,
        **_owned(),
    )


def upload(blobs: Blobs) -> list[SQLModel]:
    """Pending, and all there."""
    part = _stored(blobs, f"uploads/{UPLOAD}/{PART}")
    pending = Upload(
        id=UPLOAD,
        expires_at=WHEN + 10**6,
        filename="filename",
        mime_type="mime_type",
        purpose="assistants",
        bytes=len(BYTES),
        **_owned(),
    )
    return [pending, UploadPart(id=PART, upload_id=UPLOAD, created_at=WHEN, **part)]


def others(hook: str) -> list[SQLModel]:
    rows: list[SQLModel] = [
        Batch(
            id=each,
            endpoint="/v1/chat/completions",
            input_file_id="file-gone",
            completion_window="24h",
            expires_at=WHEN + 86_400,
            **_owned(),
        )
        for each in BATCHES
    ]
    for place, each in enumerate(EVENTS, 1):
        rows += [
            Event(id=each, job_id=JOB, seq=place, attempt=1, created_at=WHEN, level="info", message=each),
            _checkpoint(each, place),
        ]
    rows += [
        Permission(id=each, checkpoint_model=model, owner_project_id="ours", project_id=project, created_at=WHEN)
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
            **_owned(),
        )
    )
    hooked: dict[str, Any] = {"updated_at": WHEN, "secret": "whsec_c2VjcmV0", "events": ["batch.completed"]}
    return [*rows, Webhook(id=WEBHOOK, name="x", url=hook, **hooked, **_owned())]


def _checkpoint(checkpoint_id: str, step: int) -> Checkpoint:
    return Checkpoint(
        id=checkpoint_id,
        job_id=JOB,
        step=step,
        attempt=1,
        prefix=f"projects/ours/jobs/{JOB}/a1/step-{step}",
        manifest_sha256=SHA,
        keep=True,
        metrics={"step": step, "train_loss": 1.5},
        **_owned(),
    )


def _owned() -> dict[str, Any]:
    return {"project_id": "ours", "created_at": WHEN}


def _stored(blobs: Blobs, name: str) -> dict[str, Any]:
    key = f"projects/ours/{name}"
    stored = blobs.put_bytes(key, BYTES, exclusive=True)
    return {"blob_key": key, "bytes": stored.size, "sha256": stored.sha256}

"""Ids for the tenant matrix: the ids of one route belong together and to one project.

A location is a path parameter's name, ``query:`` and a parameter, or ``body:`` and a field.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from storage.access.keys import create_key, create_project
from storage.ids import new_id
from storage.tables import AuditEntry, Batch, CheckpointPermission, Delivery, Project, Upload, UploadPart, Webhook
from tests.api.stack import Stack

RouteIds = dict[str, str]
IdFactory = Callable[[Stack], RouteIds]


def bind_id(location: str, create_id: Callable[[Stack], str]) -> IdFactory:
    return lambda stack: {location: create_id(stack)}


def create_file(stack: Stack) -> str:
    return stack.get_client().files.create(file=b"x", purpose="fine-tune").id


def create_job(stack: Stack) -> str:
    return stack.insert_job().id


def create_ended_job(stack: Stack) -> str:
    """Insert an ended job: the event stream of a running job would not end."""
    return stack.insert_job(state="cancelled").id


def create_model(stack: Stack) -> str:
    return stack.insert_model().id


def create_checkpoint_model(stack: Stack) -> str:
    job = stack.insert_job(state="running")
    stack.insert_checkpoint(job, 1)
    return f"ft:starter:luthier::{job.id[-8:]}:ckpt-step-1"


def create_event(stack: Stack) -> RouteIds:
    job = stack.insert_job()
    return {"job_id": job.id, "query:after": stack.insert_event(job, 1).id}


def create_checkpoint_page(stack: Stack) -> RouteIds:
    job = stack.insert_job()
    return {"job_id": job.id, "query:after": stack.insert_checkpoint(job, 1).id}


def create_checkpoint(stack: Stack) -> RouteIds:
    job = stack.insert_job(state="succeeded")
    return {"job_id": job.id, "checkpoint_id": stack.insert_checkpoint(job, 1).id}


def create_checkpoints(stack: Stack) -> RouteIds:
    ids = create_checkpoint(stack)
    return {"job_id": ids["job_id"], "body:ids": ids["checkpoint_id"]}


def bind_training_request(create_model_id: Callable[[Stack], str]) -> IdFactory:
    def create_ids(stack: Stack) -> RouteIds:
        files = {
            f"body:{name}": stack.insert_file().id for name in ("training_file", "validation_file", "general_file")
        }
        return {"body:model": create_model_id(stack), **files}

    return create_ids


def create_continued_request(stack: Stack) -> RouteIds:
    """Create a request that continues from a checkpoint of a job."""
    job = stack.insert_job(state="running")
    stack.insert_checkpoint(job, 1)
    return {"body:from_checkpoint": f"{job.id}:1", "body:training_file": stack.insert_file().id}


def bind_clone_request(create_changes: IdFactory) -> IdFactory:
    def create_ids(stack: Stack) -> RouteIds:
        request = {"model": "starter", "training_file": stack.insert_file().id}
        return {"job_id": stack.insert_job(request=request).id, **create_changes(stack)}

    return create_ids


def create_upload(stack: Stack) -> str:
    now = time.time()
    upload = Upload(
        id=new_id("upload"),
        project_id=stack.tenant.project_id,
        created_at=now,
        expires_at=now + 3600,
        filename="f",
        mime_type="text/plain",
        purpose="fine-tune",
        bytes=1,
    )
    stack.insert(upload)
    return upload.id


def create_upload_part(stack: Stack) -> RouteIds:
    key = f"projects/{stack.tenant.project_id}/{new_id('part')}"
    stored = stack.blobs.put_bytes(key, b"x")
    part = UploadPart(
        id=new_id("part"),
        upload_id=create_upload(stack),
        created_at=time.time(),
        bytes=1,
        sha256=stored.sha256,
        blob_key=key,
    )
    stack.insert(part)
    return {"upload_id": part.upload_id, "body:part_ids": part.id}


def create_batch(stack: Stack) -> str:
    batch = Batch(
        id=new_id("batch"),
        project_id=stack.tenant.project_id,
        created_at=time.time(),
        endpoint="/v1/chat/completions",
        input_file_id="file-gone",
        completion_window="24h",
        expires_at=time.time() + 86_400,
    )
    stack.insert(batch)
    return batch.id


def create_batch_file(stack: Stack) -> str:
    return stack.insert_file(purpose="batch").id


def create_webhook(stack: Stack) -> str:
    now = time.time()
    webhook = Webhook(
        id=new_id("webhook"),
        project_id=stack.tenant.project_id,
        created_at=now,
        updated_at=now,
        name="hook",
        url="https://hooks.invalid/",
        secret="whsec_AAAA",
        events=[],
    )
    stack.insert(webhook)
    return webhook.id


def create_delivery(stack: Stack) -> RouteIds:
    delivery = Delivery(
        id=new_id("delivery"),
        webhook_id=create_webhook(stack),
        project_id=stack.tenant.project_id,
        created_at=time.time(),
        type="batch.completed",
        body="{}",
        state="delivered",
    )
    stack.insert(delivery)
    return {"webhook_id": delivery.webhook_id, "query:after": delivery.id}


def create_sibling_project(stack: Stack) -> str:
    """Create another project in the organization of the stack's project."""

    async def create(session: Any) -> str:
        project = await session.get_one(Project, stack.tenant.project_id)
        return (await create_project(session, "sibling", project.organization_id)).id

    return stack.run_in_session(create)


def bind_api_key(location: str) -> IdFactory:
    def create_ids(stack: Stack) -> RouteIds:
        project_id = create_sibling_project(stack)

        async def create(session: Any) -> str:
            return (await create_key(session, project_id, "k", "read"))[1].id

        return {"project_id": project_id, location: stack.run_in_session(create)}

    return create_ids


def create_sharing_request(stack: Stack) -> RouteIds:
    return {"checkpoint": create_model(stack), "body:project_ids": create_sibling_project(stack)}


def bind_permission(location: str) -> IdFactory:
    def create_ids(stack: Stack) -> RouteIds:
        checkpoint = create_model(stack)
        permission = CheckpointPermission(
            id=new_id("permission"),
            checkpoint_model=checkpoint,
            owner_project_id=stack.tenant.project_id,
            project_id=create_sibling_project(stack),
            created_at=time.time(),
        )
        stack.insert(permission)
        return {"checkpoint": checkpoint, location: permission.id}

    return create_ids


def create_audit_entry(stack: Stack) -> str:
    async def create(session: Any) -> str:
        project = await session.get_one(Project, stack.tenant.project_id)
        entry = AuditEntry(
            id=new_id("audit"),
            organization_id=project.organization_id,
            project_id=project.id,
            key_id="key_x",
            created_at=time.time(),
            action="file.deleted",
            target="file-x",
            request_id="req_x",
        )
        session.add(entry)
        return entry.id

    return stack.run_in_session(create)

"""Ids for the tenant matrix: a *world* is ids for all places of a route that belong together, made in one project.

A place is a path parameter's name, ``query:`` and a parameter, or ``body:`` and a field.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from storage.access.keys import create_key, create_project
from storage.ids import new_id
from storage.tables import AuditEntry, Batch, Delivery, Project, Upload, UploadPart, Webhook
from storage.tables import Permission as Granted
from tests.api.stack import Stack

World = dict[str, str]
Make = Callable[[Stack], World]


def at(place: str, make: Callable[[Stack], str]) -> Make:
    return lambda stack: {place: make(stack)}


def file(stack: Stack) -> str:
    return stack.client().files.create(file=b"x", purpose="fine-tune").id


def job(stack: Stack) -> str:
    return stack.job().id


def ended_job(stack: Stack) -> str:
    """A stream of one that goes on would not end."""
    return stack.job(state="cancelled").id


def model(stack: Stack) -> str:
    return stack.model().id


def checkpoint_model(stack: Stack) -> str:
    job = stack.job(state="running")
    stack.checkpoint(job, 1)
    return f"ft:starter:luthier::{job.id[-8:]}:ckpt-step-1"


def event(stack: Stack) -> World:
    job = stack.job()
    return {"job_id": job.id, "query:after": stack.event(job, 1).id}


def checkpoint_page(stack: Stack) -> World:
    job = stack.job()
    return {"job_id": job.id, "query:after": stack.checkpoint(job, 1).id}


def checkpoint(stack: Stack) -> World:
    job = stack.job(state="succeeded")
    return {"job_id": job.id, "checkpoint_id": stack.checkpoint(job, 1).id}


def checkpoints(stack: Stack) -> World:
    world = checkpoint(stack)
    return {"job_id": world["job_id"], "body:ids": world["checkpoint_id"]}


def training(model: Callable[[Stack], str]) -> Make:
    def world(stack: Stack) -> World:
        files = {f"body:{name}": stack.file().id for name in ("training_file", "validation_file", "general_file")}
        return {"body:model": model(stack), **files}

    return world


def continuing(stack: Stack) -> World:
    """On from a step of a job."""
    job = stack.job(state="running")
    stack.checkpoint(job, 1)
    return {"body:from_checkpoint": f"{job.id}:1", "body:training_file": stack.file().id}


def clone(rest: Make) -> Make:
    def world(stack: Stack) -> World:
        request = {"model": "starter", "training_file": stack.file().id}
        return {"job_id": stack.job(request=request).id, **rest(stack)}

    return world


def upload(stack: Stack) -> str:
    now = time.time()
    upload = Upload(
        id=new_id("upload"),
        project_id=stack.ours.project_id,
        created_at=now,
        expires_at=now + 3600,
        filename="f",
        mime_type="text/plain",
        purpose="fine-tune",
        bytes=1,
    )
    stack.insert(upload)
    return upload.id


def parts(stack: Stack) -> World:
    key = f"projects/{stack.ours.project_id}/{new_id('part')}"
    stored = stack.blobs.put_bytes(key, b"x")
    part = UploadPart(
        id=new_id("part"),
        upload_id=upload(stack),
        created_at=time.time(),
        bytes=1,
        sha256=stored.sha256,
        blob_key=key,
    )
    stack.insert(part)
    return {"upload_id": part.upload_id, "body:part_ids": part.id}


def batch(stack: Stack) -> str:
    batch = Batch(
        id=new_id("batch"),
        project_id=stack.ours.project_id,
        created_at=time.time(),
        endpoint="/v1/chat/completions",
        input_file_id="file-gone",
        completion_window="24h",
        expires_at=time.time() + 86_400,
    )
    stack.insert(batch)
    return batch.id


def batch_file(stack: Stack) -> str:
    return stack.file(purpose="batch").id


def webhook(stack: Stack) -> str:
    now = time.time()
    webhook = Webhook(
        id=new_id("webhook"),
        project_id=stack.ours.project_id,
        created_at=now,
        updated_at=now,
        name="hook",
        url="https://hooks.invalid/",
        secret="whsec_AAAA",
        events=[],
    )
    stack.insert(webhook)
    return webhook.id


def delivery(stack: Stack) -> World:
    delivery = Delivery(
        id=new_id("delivery"),
        webhook_id=webhook(stack),
        project_id=stack.ours.project_id,
        created_at=time.time(),
        type="batch.completed",
        body="{}",
        state="delivered",
    )
    stack.insert(delivery)
    return {"webhook_id": delivery.webhook_id, "query:after": delivery.id}


def project(stack: Stack) -> str:
    """Beside the stack's own, in its organization."""

    async def made(session: Any) -> str:
        mine = await session.get_one(Project, stack.ours.project_id)
        return (await create_project(session, "beside", mine.organization_id)).id

    return stack.session(made)


def key(place: str) -> Make:
    def world(stack: Stack) -> World:
        project_id = project(stack)

        async def made(session: Any) -> str:
            return (await create_key(session, project_id, "k", "read"))[1].id

        return {"project_id": project_id, place: stack.session(made)}

    return world


def sharing(stack: Stack) -> World:
    return {"checkpoint": model(stack), "body:project_ids": project(stack)}


def shared(place: str) -> Make:
    def world(stack: Stack) -> World:
        checkpoint = model(stack)
        granted = Granted(
            id=new_id("permission"),
            checkpoint_model=checkpoint,
            owner_project_id=stack.ours.project_id,
            project_id=project(stack),
            created_at=time.time(),
        )
        stack.insert(granted)
        return {"checkpoint": checkpoint, place: granted.id}

    return world


def audited(stack: Stack) -> str:
    async def made(session: Any) -> str:
        mine = await session.get_one(Project, stack.ours.project_id)
        entry = AuditEntry(
            id=new_id("audit"),
            organization_id=mine.organization_id,
            project_id=mine.id,
            key_id="key_x",
            created_at=time.time(),
            action="file.deleted",
            target="file-x",
            request_id="req_x",
        )
        session.add(entry)
        return entry.id

    return stack.session(made)

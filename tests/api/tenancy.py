"""One line for each route: what it asks of a role, and every place in which it takes an id.

A place is a path parameter's name, ``query:`` and a parameter, or ``body:`` and a field. A *world* is ids for all
places of a route that belong together, made in one project; the matrix puts another project's id into one place.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from storage.ids import new_id
from storage.keys import create_key, create_project
from storage.roles import Permission
from storage.tables import AuditEntry, Batch, Delivery, Project, Upload, UploadPart, Webhook
from storage.tables import Permission as Granted
from tests.api.stack import Stack

World = dict[str, str]
Make = Callable[[Stack], World]


@dataclass(frozen=True)
class Line:
    needs: Permission
    worlds: tuple[Make, ...] = ()
    body: dict[str, Any] = field(default_factory=dict)
    """What is sent beside the ids."""
    lists: frozenset[str] = frozenset()
    """Fields of the body that take a list of ids."""
    foreign: str = "project"
    """Whose ids are tried: those of another ``project`` of the organization, or of another ``organization``."""


def at(place: str, make: Callable[[Stack], str]) -> Make:
    return lambda stack: {place: make(stack)}


def _file(stack: Stack) -> str:
    return stack.client().files.create(file=b"x", purpose="fine-tune").id


def _job(stack: Stack) -> str:
    return stack.job().id


def _ended_job(stack: Stack) -> str:
    """A stream of one that goes on would not end."""
    return stack.job(state="cancelled").id


def _model(stack: Stack) -> str:
    return stack.model().id


def _checkpoint_model(stack: Stack) -> str:
    job = stack.job(state="running")
    stack.checkpoint(job, 1)
    return f"ft:starter:luthier::{job.id[-8:]}:ckpt-step-1"


def _event(stack: Stack) -> World:
    job = stack.job()
    return {"job_id": job.id, "query:after": stack.event(job, 1).id}


def _checkpoint_page(stack: Stack) -> World:
    job = stack.job()
    return {"job_id": job.id, "query:after": stack.checkpoint(job, 1).id}


def _checkpoint(stack: Stack) -> World:
    job = stack.job(state="succeeded")
    return {"job_id": job.id, "checkpoint_id": stack.checkpoint(job, 1).id}


def _checkpoints(stack: Stack) -> World:
    world = _checkpoint(stack)
    return {"job_id": world["job_id"], "body:ids": world["checkpoint_id"]}


def _training(model: Callable[[Stack], str]) -> Make:
    def world(stack: Stack) -> World:
        files = {f"body:{name}": stack.file().id for name in ("training_file", "validation_file", "general_file")}
        return {"body:model": model(stack), **files}

    return world


def _continuing(stack: Stack) -> World:
    """On from a step of a job."""
    job = stack.job(state="running")
    stack.checkpoint(job, 1)
    return {"body:from_checkpoint": f"{job.id}:1", "body:training_file": stack.file().id}


def _clone(rest: Make) -> Make:
    def world(stack: Stack) -> World:
        request = {"model": "starter", "training_file": stack.file().id}
        return {"job_id": stack.job(request=request).id, **rest(stack)}

    return world


def _upload(stack: Stack) -> str:
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


def _parts(stack: Stack) -> World:
    key = f"projects/{stack.ours.project_id}/{new_id('part')}"
    stored = stack.blobs.put_bytes(key, b"x")
    part = UploadPart(
        id=new_id("part"),
        upload_id=_upload(stack),
        created_at=time.time(),
        bytes=1,
        sha256=stored.sha256,
        blob_key=key,
    )
    stack.insert(part)
    return {"upload_id": part.upload_id, "body:part_ids": part.id}


def _batch(stack: Stack) -> str:
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


def _batch_file(stack: Stack) -> str:
    return stack.file(purpose="batch").id


def _webhook(stack: Stack) -> str:
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


def _delivery(stack: Stack) -> World:
    delivery = Delivery(
        id=new_id("delivery"),
        webhook_id=_webhook(stack),
        project_id=stack.ours.project_id,
        created_at=time.time(),
        type="batch.completed",
        body="{}",
        state="delivered",
    )
    stack.insert(delivery)
    return {"webhook_id": delivery.webhook_id, "query:after": delivery.id}


def _project(stack: Stack) -> str:
    """Beside the stack's own, in its organization."""

    async def made(session: Any) -> str:
        mine = await session.get_one(Project, stack.ours.project_id)
        return (await create_project(session, "beside", mine.organization_id)).id

    return stack.session(made)


def _key(place: str) -> Make:
    def world(stack: Stack) -> World:
        project_id = _project(stack)

        async def made(session: Any) -> str:
            return (await create_key(session, project_id, "k", "read"))[1].id

        return {"project_id": project_id, place: stack.session(made)}

    return world


def _sharing(stack: Stack) -> World:
    return {"checkpoint": _model(stack), "body:project_ids": _project(stack)}


def _shared(place: str) -> Make:
    def world(stack: Stack) -> World:
        model = _model(stack)
        granted = Granted(
            id=new_id("permission"),
            checkpoint_model=model,
            owner_project_id=stack.ours.project_id,
            project_id=_project(stack),
            created_at=time.time(),
        )
        stack.insert(granted)
        return {"checkpoint": model, place: granted.id}

    return world


def _audited(stack: Stack) -> str:
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


def _admin(*worlds: Make, **values: Any) -> Line:
    return Line(Permission.ADMINISTER, worlds, foreign="organization", **values)


_READ, _WRITE, _INFER, _MODELS = Permission.READ, Permission.WRITE, Permission.INFER, Permission.READ_MODELS
_CHAT = {"messages": [{"role": "user", "content": "Hi"}]}
_ANSWERING = (at("body:model", _model), at("body:model", _checkpoint_model))
_MODEL_PATH = (at("model", _model), at("model", _checkpoint_model))

LINES: dict[str, Line] = {
    "create_file": Line(_WRITE),
    "list_files": Line(_READ, (at("query:after", _file),)),
    "retrieve_file": Line(_READ, (at("file_id", _file),)),
    "delete_file": Line(_WRITE, (at("file_id", _file),)),
    "retrieve_file_content": Line(_READ, (at("file_id", _file),)),
    "create_upload": Line(_WRITE),
    "create_upload_part": Line(_WRITE, (at("upload_id", _upload),)),
    "complete_upload": Line(_WRITE, (_parts,), lists=frozenset({"part_ids"})),
    "cancel_upload": Line(_WRITE, (at("upload_id", _upload),)),
    "create_fine_tuning_job": Line(_WRITE, (_training(_model), _training(_checkpoint_model), _continuing)),
    "list_fine_tuning_jobs": Line(_READ, (at("query:after", _job),)),
    "retrieve_fine_tuning_job": Line(_READ, (at("job_id", _job),)),
    "cancel_fine_tuning_job": Line(_WRITE, (at("job_id", _job),)),
    "pause_fine_tuning_job": Line(_WRITE, (at("job_id", _job),)),
    "resume_fine_tuning_job": Line(_WRITE, (at("job_id", _job),)),
    "start_fine_tuning_job": Line(_WRITE, (at("job_id", _job),)),
    "clone_fine_tuning_job": Line(_WRITE, (_clone(_training(_model)), _clone(_continuing))),
    "list_fine_tuning_job_metrics": Line(_READ, (at("job_id", _job),)),
    "stream_fine_tuning_job_metrics": Line(_READ, (at("job_id", _ended_job),)),
    "stream_fine_tuning_events": Line(_READ, (at("job_id", _ended_job),)),
    "list_fine_tuning_events": Line(_READ, (_event,)),
    "list_fine_tuning_job_checkpoints": Line(_READ, (_checkpoint_page,)),
    "preflight_fine_tuning_job": Line(_WRITE, (_training(_model), _continuing)),
    "preview_fine_tuning_rows": Line(_WRITE, (_training(_model), _continuing)),
    "update_checkpoint": Line(_WRITE, (_checkpoint,), {"ttl_seconds": None}),
    "delete_checkpoint": Line(_WRITE, (_checkpoint,)),
    "delete_checkpoints": Line(_WRITE, (_checkpoints,), lists=frozenset({"ids"})),
    "create_checkpoint_permissions": _admin(_sharing, lists=frozenset({"project_ids"})),
    "list_checkpoint_permissions": _admin(_shared("query:after")),
    "delete_checkpoint_permission": _admin(_shared("permission_id")),
    "list_models": Line(_MODELS),
    "download_model": Line(_READ, _MODEL_PATH),
    "retrieve_model": Line(_MODELS, _MODEL_PATH),
    "delete_model": Line(_WRITE, _MODEL_PATH),
    "create_chat_completion": Line(_INFER, _ANSWERING, _CHAT),
    "create_completion": Line(_INFER, _ANSWERING, {"prompt": "Hi"}),
    "create_embeddings": Line(_INFER, _ANSWERING, {"input": "x"}),
    "create_predictions": Line(_INFER, _ANSWERING, {"inputs": ["x"]}),
    "create_batch": Line(
        _WRITE,
        (at("body:input_file_id", _batch_file),),
        {"endpoint": "/v1/chat/completions", "completion_window": "24h"},
    ),
    "list_batches": Line(_READ, (at("query:after", _batch),)),
    "retrieve_batch": Line(_READ, (at("batch_id", _batch),)),
    "cancel_batch": Line(_WRITE, (at("batch_id", _batch),)),
    "list_webhook_event_types": Line(_READ),
    "create_webhook": Line(_WRITE),
    "list_webhooks": Line(_READ, (at("query:after", _webhook),)),
    "retrieve_webhook": Line(_READ, (at("webhook_id", _webhook),)),
    "update_webhook": Line(_WRITE, (at("webhook_id", _webhook),), {"name": "other"}),
    "delete_webhook": Line(_WRITE, (at("webhook_id", _webhook),)),
    "rotate_webhook_secret": Line(_WRITE, (at("webhook_id", _webhook),)),
    "test_webhook": Line(_WRITE, (at("webhook_id", _webhook),), {"event_type": "batch.completed"}),
    "list_webhook_deliveries": Line(_READ, (_delivery,)),
    "create_organization_project": _admin(),
    "list_projects": _admin(at("query:after", _project)),
    "retrieve_project": _admin(at("project_id", _project)),
    "update_project": _admin(at("project_id", _project), body={"name": "other"}),
    "archive_project": _admin(at("project_id", _project)),
    "create_project_api_key": _admin(at("project_id", _project), body={"name": "k"}),
    "list_project_api_keys": _admin(_key("query:after")),
    "retrieve_project_api_key": _admin(_key("key_id")),
    "delete_project_api_key": _admin(_key("key_id")),
    "list_audit_logs": _admin(at("query:after", _audited)),
    # What their lists name that is another organization's filters everything away: test_admin.py.
    "retrieve_usage": _admin(),
    "retrieve_me": Line(Permission.KNOW_ITSELF),
}

UNKNOWN = {
    "file_id": "file-none",
    "upload_id": "upload_none",
    "job_id": "ftjob-none",
    "checkpoint": "ft:starter:luthier::none",
    "model": "ft:starter:luthier::none",
    "project_ids": "proj_none",
}
"""Place -> an id that was never made; the longest of the names that a place ends in counts, else ``none``."""


def unknown(place: str) -> str:
    return UNKNOWN.get(place.rpartition(":")[2], "none")

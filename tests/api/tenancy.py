"""One line for each route: what it asks of a role, and every place in which it takes an id.

The ids that belong together are made by :mod:`tests.api.worlds`; the matrix puts another project's id into one place.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from storage.access.roles import Permission
from tests.api import worlds
from tests.api.worlds import Make, at


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


def _admin(*worlds: Make, **values: Any) -> Line:
    return Line(Permission.ADMINISTER, worlds, foreign="organization", **values)


_READ, _WRITE, _INFER, _MODELS = Permission.READ, Permission.WRITE, Permission.INFER, Permission.READ_MODELS
_CHAT = {"messages": [{"role": "user", "content": "Hi"}]}
_ANSWERING = (at("body:model", worlds.model), at("body:model", worlds.checkpoint_model))
_MODEL_PATH = (at("model", worlds.model), at("model", worlds.checkpoint_model))

LINES: dict[str, Line] = {
    "create_file": Line(_WRITE),
    "list_files": Line(_READ, (at("query:after", worlds.file),)),
    "retrieve_file": Line(_READ, (at("file_id", worlds.file),)),
    "delete_file": Line(_WRITE, (at("file_id", worlds.file),)),
    "retrieve_file_content": Line(_READ, (at("file_id", worlds.file),)),
    "create_upload": Line(_WRITE),
    "create_upload_part": Line(_WRITE, (at("upload_id", worlds.upload),)),
    "complete_upload": Line(_WRITE, (worlds.parts,), lists=frozenset({"part_ids"})),
    "cancel_upload": Line(_WRITE, (at("upload_id", worlds.upload),)),
    "create_fine_tuning_job": Line(
        _WRITE, (worlds.training(worlds.model), worlds.training(worlds.checkpoint_model), worlds.continuing)
    ),
    "list_fine_tuning_jobs": Line(_READ, (at("query:after", worlds.job),)),
    "retrieve_fine_tuning_job": Line(_READ, (at("job_id", worlds.job),)),
    "cancel_fine_tuning_job": Line(_WRITE, (at("job_id", worlds.job),)),
    "pause_fine_tuning_job": Line(_WRITE, (at("job_id", worlds.job),)),
    "resume_fine_tuning_job": Line(_WRITE, (at("job_id", worlds.job),)),
    "start_fine_tuning_job": Line(_WRITE, (at("job_id", worlds.job),)),
    "clone_fine_tuning_job": Line(
        _WRITE, (worlds.clone(worlds.training(worlds.model)), worlds.clone(worlds.continuing))
    ),
    "list_fine_tuning_job_metrics": Line(_READ, (at("job_id", worlds.job),)),
    "stream_fine_tuning_job_metrics": Line(_READ, (at("job_id", worlds.ended_job),)),
    "stream_fine_tuning_events": Line(_READ, (at("job_id", worlds.ended_job),)),
    "list_fine_tuning_events": Line(_READ, (worlds.event,)),
    "list_fine_tuning_job_checkpoints": Line(_READ, (worlds.checkpoint_page,)),
    "preflight_fine_tuning_job": Line(_WRITE, (worlds.training(worlds.model), worlds.continuing)),
    "preview_fine_tuning_rows": Line(_WRITE, (worlds.training(worlds.model), worlds.continuing)),
    "update_checkpoint": Line(_WRITE, (worlds.checkpoint,), {"ttl_seconds": None}),
    "delete_checkpoint": Line(_WRITE, (worlds.checkpoint,)),
    "delete_checkpoints": Line(_WRITE, (worlds.checkpoints,), lists=frozenset({"ids"})),
    "create_checkpoint_permissions": _admin(worlds.sharing, lists=frozenset({"project_ids"})),
    "list_checkpoint_permissions": _admin(worlds.shared("query:after")),
    "delete_checkpoint_permission": _admin(worlds.shared("permission_id")),
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
        (at("body:input_file_id", worlds.batch_file),),
        {"endpoint": "/v1/chat/completions", "completion_window": "24h"},
    ),
    "list_batches": Line(_READ, (at("query:after", worlds.batch),)),
    "retrieve_batch": Line(_READ, (at("batch_id", worlds.batch),)),
    "cancel_batch": Line(_WRITE, (at("batch_id", worlds.batch),)),
    "list_webhook_event_types": Line(_READ),
    "create_webhook": Line(_WRITE),
    "list_webhooks": Line(_READ, (at("query:after", worlds.webhook),)),
    "retrieve_webhook": Line(_READ, (at("webhook_id", worlds.webhook),)),
    "update_webhook": Line(_WRITE, (at("webhook_id", worlds.webhook),), {"name": "other"}),
    "delete_webhook": Line(_WRITE, (at("webhook_id", worlds.webhook),)),
    "rotate_webhook_secret": Line(_WRITE, (at("webhook_id", worlds.webhook),)),
    "test_webhook": Line(_WRITE, (at("webhook_id", worlds.webhook),), {"event_type": "batch.completed"}),
    "list_webhook_deliveries": Line(_READ, (worlds.delivery,)),
    "create_organization_project": _admin(),
    "list_projects": _admin(at("query:after", worlds.project)),
    "retrieve_project": _admin(at("project_id", worlds.project)),
    "update_project": _admin(at("project_id", worlds.project), body={"name": "other"}),
    "archive_project": _admin(at("project_id", worlds.project)),
    "create_project_api_key": _admin(at("project_id", worlds.project), body={"name": "k"}),
    "list_project_api_keys": _admin(worlds.key("query:after")),
    "retrieve_project_api_key": _admin(worlds.key("key_id")),
    "delete_project_api_key": _admin(worlds.key("key_id")),
    "list_audit_logs": _admin(at("query:after", worlds.audited)),
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

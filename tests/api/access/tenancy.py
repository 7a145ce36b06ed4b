"""One line for each route: what it asks of a role, and every place in which it takes an id.

The ids that belong together are made by :mod:`tests.api.access.tenant_ids`; the matrix swaps one of them
for an id of another project.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from storage.access.roles import Permission
from tests.api.access import tenant_ids
from tests.api.access.tenant_ids import Make, at


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
_ANSWERING = (at("body:model", tenant_ids.model), at("body:model", tenant_ids.checkpoint_model))
_MODEL_PATH = (at("model", tenant_ids.model), at("model", tenant_ids.checkpoint_model))

LINES: dict[str, Line] = {
    "create_file": Line(_WRITE),
    "list_files": Line(_READ, (at("query:after", tenant_ids.file),)),
    "retrieve_file": Line(_READ, (at("file_id", tenant_ids.file),)),
    "delete_file": Line(_WRITE, (at("file_id", tenant_ids.file),)),
    "retrieve_file_content": Line(_READ, (at("file_id", tenant_ids.file),)),
    "create_upload": Line(_WRITE),
    "create_upload_part": Line(_WRITE, (at("upload_id", tenant_ids.upload),)),
    "complete_upload": Line(_WRITE, (tenant_ids.parts,), lists=frozenset({"part_ids"})),
    "cancel_upload": Line(_WRITE, (at("upload_id", tenant_ids.upload),)),
    "create_fine_tuning_job": Line(
        _WRITE,
        (
            tenant_ids.training(tenant_ids.model),
            tenant_ids.training(tenant_ids.checkpoint_model),
            tenant_ids.continuing,
        ),
    ),
    "list_fine_tuning_jobs": Line(_READ, (at("query:after", tenant_ids.job),)),
    "retrieve_fine_tuning_job": Line(_READ, (at("job_id", tenant_ids.job),)),
    "cancel_fine_tuning_job": Line(_WRITE, (at("job_id", tenant_ids.job),)),
    "pause_fine_tuning_job": Line(_WRITE, (at("job_id", tenant_ids.job),)),
    "resume_fine_tuning_job": Line(_WRITE, (at("job_id", tenant_ids.job),)),
    "start_fine_tuning_job": Line(_WRITE, (at("job_id", tenant_ids.job),)),
    "clone_fine_tuning_job": Line(
        _WRITE, (tenant_ids.clone(tenant_ids.training(tenant_ids.model)), tenant_ids.clone(tenant_ids.continuing))
    ),
    "list_fine_tuning_job_metrics": Line(_READ, (at("job_id", tenant_ids.job),)),
    "stream_fine_tuning_job_metrics": Line(_READ, (at("job_id", tenant_ids.ended_job),)),
    "stream_fine_tuning_events": Line(_READ, (at("job_id", tenant_ids.ended_job),)),
    "list_fine_tuning_events": Line(_READ, (tenant_ids.event,)),
    "list_fine_tuning_job_checkpoints": Line(_READ, (tenant_ids.checkpoint_page,)),
    "preflight_fine_tuning_job": Line(_WRITE, (tenant_ids.training(tenant_ids.model), tenant_ids.continuing)),
    "preview_fine_tuning_rows": Line(_WRITE, (tenant_ids.training(tenant_ids.model), tenant_ids.continuing)),
    "update_checkpoint": Line(_WRITE, (tenant_ids.checkpoint,), {"ttl_seconds": None}),
    "delete_checkpoint": Line(_WRITE, (tenant_ids.checkpoint,)),
    "delete_checkpoints": Line(_WRITE, (tenant_ids.checkpoints,), lists=frozenset({"ids"})),
    "create_checkpoint_permissions": _admin(tenant_ids.sharing, lists=frozenset({"project_ids"})),
    "list_checkpoint_permissions": _admin(tenant_ids.shared("query:after")),
    "delete_checkpoint_permission": _admin(tenant_ids.shared("permission_id")),
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
        (at("body:input_file_id", tenant_ids.batch_file),),
        {"endpoint": "/v1/chat/completions", "completion_window": "24h"},
    ),
    "list_batches": Line(_READ, (at("query:after", tenant_ids.batch),)),
    "retrieve_batch": Line(_READ, (at("batch_id", tenant_ids.batch),)),
    "cancel_batch": Line(_WRITE, (at("batch_id", tenant_ids.batch),)),
    "list_webhook_event_types": Line(_READ),
    "create_webhook": Line(_WRITE),
    "list_webhooks": Line(_READ, (at("query:after", tenant_ids.webhook),)),
    "retrieve_webhook": Line(_READ, (at("webhook_id", tenant_ids.webhook),)),
    "update_webhook": Line(_WRITE, (at("webhook_id", tenant_ids.webhook),), {"name": "other"}),
    "delete_webhook": Line(_WRITE, (at("webhook_id", tenant_ids.webhook),)),
    "rotate_webhook_secret": Line(_WRITE, (at("webhook_id", tenant_ids.webhook),)),
    "test_webhook": Line(_WRITE, (at("webhook_id", tenant_ids.webhook),), {"event_type": "batch.completed"}),
    "list_webhook_deliveries": Line(_READ, (tenant_ids.delivery,)),
    "create_organization_project": _admin(),
    "list_projects": _admin(at("query:after", tenant_ids.project)),
    "retrieve_project": _admin(at("project_id", tenant_ids.project)),
    "update_project": _admin(at("project_id", tenant_ids.project), body={"name": "other"}),
    "archive_project": _admin(at("project_id", tenant_ids.project)),
    "create_project_api_key": _admin(at("project_id", tenant_ids.project), body={"name": "k"}),
    "list_project_api_keys": _admin(tenant_ids.key("query:after")),
    "retrieve_project_api_key": _admin(tenant_ids.key("key_id")),
    "delete_project_api_key": _admin(tenant_ids.key("key_id")),
    "list_audit_logs": _admin(at("query:after", tenant_ids.audited)),
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

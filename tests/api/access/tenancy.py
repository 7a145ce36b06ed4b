"""Rule of each route: the permission it requires and every location in which it takes an id.

:mod:`tests.api.access.tenant_ids` creates the ids that belong together. The tenant matrix replaces
one of them with an id of another project.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from storage.access.roles import Permission
from tests.api.access import tenant_ids
from tests.api.access.tenant_ids import IdFactory, bind_id


@dataclass(frozen=True)
class RouteRule:
    permission: Permission
    id_factories: tuple[IdFactory, ...] = ()
    body: dict[str, Any] = field(default_factory=dict)
    """Fields of the body besides the ids."""
    list_fields: frozenset[str] = frozenset()
    """Fields of the body that take a list of ids."""
    foreign_scope: str = "project"
    """Owner of the foreign ids: another ``project`` of the organization, or another
    ``organization``."""


def _build_admin_rule(*id_factories: IdFactory, **values: Any) -> RouteRule:
    return RouteRule(Permission.ADMINISTER, id_factories, foreign_scope="organization", **values)


_READ, _WRITE, _INFER, _MODELS = Permission.READ, Permission.WRITE, Permission.INFER, Permission.READ_MODELS
_CHAT_BODY = {"messages": [{"role": "user", "content": "Hi"}]}
_INFERENCE_MODELS = (
    bind_id("body:model", tenant_ids.create_model),
    bind_id("body:model", tenant_ids.create_checkpoint_model),
)
_MODEL_PATH = (bind_id("model", tenant_ids.create_model), bind_id("model", tenant_ids.create_checkpoint_model))

ROUTE_RULES: dict[str, RouteRule] = {
    "create_file": RouteRule(_WRITE),
    "list_files": RouteRule(_READ, (bind_id("query:after", tenant_ids.create_file),)),
    "retrieve_file": RouteRule(_READ, (bind_id("file_id", tenant_ids.create_file),)),
    "delete_file": RouteRule(_WRITE, (bind_id("file_id", tenant_ids.create_file),)),
    "retrieve_file_content": RouteRule(_READ, (bind_id("file_id", tenant_ids.create_file),)),
    "create_upload": RouteRule(_WRITE),
    "create_upload_part": RouteRule(_WRITE, (bind_id("upload_id", tenant_ids.create_upload),)),
    "complete_upload": RouteRule(_WRITE, (tenant_ids.create_upload_part,), list_fields=frozenset({"part_ids"})),
    "cancel_upload": RouteRule(_WRITE, (bind_id("upload_id", tenant_ids.create_upload),)),
    "create_fine_tuning_job": RouteRule(
        _WRITE,
        (
            tenant_ids.bind_training_request(tenant_ids.create_model),
            tenant_ids.bind_training_request(tenant_ids.create_checkpoint_model),
            tenant_ids.create_continued_request,
        ),
    ),
    "list_fine_tuning_jobs": RouteRule(_READ, (bind_id("query:after", tenant_ids.create_job),)),
    "retrieve_fine_tuning_job": RouteRule(_READ, (bind_id("job_id", tenant_ids.create_job),)),
    "cancel_fine_tuning_job": RouteRule(_WRITE, (bind_id("job_id", tenant_ids.create_job),)),
    "pause_fine_tuning_job": RouteRule(_WRITE, (bind_id("job_id", tenant_ids.create_job),)),
    "resume_fine_tuning_job": RouteRule(_WRITE, (bind_id("job_id", tenant_ids.create_job),)),
    "start_fine_tuning_job": RouteRule(_WRITE, (bind_id("job_id", tenant_ids.create_job),)),
    "clone_fine_tuning_job": RouteRule(
        _WRITE,
        (
            tenant_ids.bind_clone_request(tenant_ids.bind_training_request(tenant_ids.create_model)),
            tenant_ids.bind_clone_request(tenant_ids.create_continued_request),
        ),
    ),
    "list_fine_tuning_job_metrics": RouteRule(_READ, (bind_id("job_id", tenant_ids.create_job),)),
    "stream_fine_tuning_job_metrics": RouteRule(_READ, (bind_id("job_id", tenant_ids.create_ended_job),)),
    "stream_fine_tuning_events": RouteRule(_READ, (bind_id("job_id", tenant_ids.create_ended_job),)),
    "list_fine_tuning_events": RouteRule(_READ, (tenant_ids.create_event,)),
    "list_fine_tuning_job_checkpoints": RouteRule(_READ, (tenant_ids.create_checkpoint_page,)),
    "preflight_fine_tuning_job": RouteRule(
        _WRITE, (tenant_ids.bind_training_request(tenant_ids.create_model), tenant_ids.create_continued_request)
    ),
    "preview_fine_tuning_rows": RouteRule(
        _WRITE, (tenant_ids.bind_training_request(tenant_ids.create_model), tenant_ids.create_continued_request)
    ),
    "update_checkpoint": RouteRule(_WRITE, (tenant_ids.create_checkpoint,), {"ttl_seconds": None}),
    "delete_checkpoint": RouteRule(_WRITE, (tenant_ids.create_checkpoint,)),
    "delete_checkpoints": RouteRule(_WRITE, (tenant_ids.create_checkpoints,), list_fields=frozenset({"ids"})),
    "create_checkpoint_permissions": _build_admin_rule(
        tenant_ids.create_sharing_request, list_fields=frozenset({"project_ids"})
    ),
    "list_checkpoint_permissions": _build_admin_rule(tenant_ids.bind_permission("query:after")),
    "delete_checkpoint_permission": _build_admin_rule(tenant_ids.bind_permission("permission_id")),
    "list_models": RouteRule(_MODELS),
    "download_model": RouteRule(_READ, _MODEL_PATH),
    "retrieve_model": RouteRule(_MODELS, _MODEL_PATH),
    "delete_model": RouteRule(_WRITE, _MODEL_PATH),
    "create_chat_completion": RouteRule(_INFER, _INFERENCE_MODELS, _CHAT_BODY),
    "create_completion": RouteRule(_INFER, _INFERENCE_MODELS, {"prompt": "Hi"}),
    "create_embeddings": RouteRule(_INFER, _INFERENCE_MODELS, {"input": "x"}),
    "create_predictions": RouteRule(_INFER, _INFERENCE_MODELS, {"inputs": ["x"]}),
    "create_batch": RouteRule(
        _WRITE,
        (bind_id("body:input_file_id", tenant_ids.create_batch_file),),
        {"endpoint": "/v1/chat/completions", "completion_window": "24h"},
    ),
    "list_batches": RouteRule(_READ, (bind_id("query:after", tenant_ids.create_batch),)),
    "retrieve_batch": RouteRule(_READ, (bind_id("batch_id", tenant_ids.create_batch),)),
    "cancel_batch": RouteRule(_WRITE, (bind_id("batch_id", tenant_ids.create_batch),)),
    "list_webhook_event_types": RouteRule(_READ),
    "create_webhook": RouteRule(_WRITE),
    "list_webhooks": RouteRule(_READ, (bind_id("query:after", tenant_ids.create_webhook),)),
    "retrieve_webhook": RouteRule(_READ, (bind_id("webhook_id", tenant_ids.create_webhook),)),
    "update_webhook": RouteRule(_WRITE, (bind_id("webhook_id", tenant_ids.create_webhook),), {"name": "other"}),
    "delete_webhook": RouteRule(_WRITE, (bind_id("webhook_id", tenant_ids.create_webhook),)),
    "rotate_webhook_secret": RouteRule(_WRITE, (bind_id("webhook_id", tenant_ids.create_webhook),)),
    "test_webhook": RouteRule(
        _WRITE, (bind_id("webhook_id", tenant_ids.create_webhook),), {"event_type": "batch.completed"}
    ),
    "list_webhook_deliveries": RouteRule(_READ, (tenant_ids.create_delivery,)),
    "create_organization_project": _build_admin_rule(),
    "list_projects": _build_admin_rule(bind_id("query:after", tenant_ids.create_sibling_project)),
    "retrieve_project": _build_admin_rule(bind_id("project_id", tenant_ids.create_sibling_project)),
    "update_project": _build_admin_rule(
        bind_id("project_id", tenant_ids.create_sibling_project), body={"name": "other"}
    ),
    "archive_project": _build_admin_rule(bind_id("project_id", tenant_ids.create_sibling_project)),
    "create_project_api_key": _build_admin_rule(
        bind_id("project_id", tenant_ids.create_sibling_project), body={"name": "k"}
    ),
    "list_project_api_keys": _build_admin_rule(tenant_ids.bind_api_key("query:after")),
    "retrieve_project_api_key": _build_admin_rule(tenant_ids.bind_api_key("key_id")),
    "delete_project_api_key": _build_admin_rule(tenant_ids.bind_api_key("key_id")),
    "list_audit_logs": _build_admin_rule(bind_id("query:after", tenant_ids.create_audit_entry)),
    # Ids of another organization in its filters match nothing: test_admin.py.
    "retrieve_usage": _build_admin_rule(),
    "retrieve_me": RouteRule(Permission.READ_SELF),
}

UNKNOWN_IDS = {
    "file_id": "file-none",
    "upload_id": "upload_none",
    "job_id": "ftjob-none",
    "checkpoint": "ft:starter:luthier::none",
    "model": "ft:starter:luthier::none",
    "project_ids": "proj_none",
}
"""Name of a parameter or field -> an id that never existed; ``none`` for other names."""


def get_unknown_id(location: str) -> str:
    return UNKNOWN_IDS.get(location.rpartition(":")[2], "none")

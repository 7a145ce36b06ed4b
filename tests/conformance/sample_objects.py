"""Things made through the API before it is fuzzed, so that requests meet what exists and not only 404."""

from __future__ import annotations

from typing import Any

from tests.conformance.client.context import CheckContext
from tests.conformance.client.files import ROW
from tests.conformance.client.jobs import create_job

OBJECT_COUNT = 12
"""Of each kind: requests delete and cancel them."""

# An address, not a name: nothing is looked up, and without a worker nothing is sent.
WEBHOOK_BODY = {"name": "fuzz", "url": "https://93.184.215.14/hook", "event_types": ["fine_tuning.job.succeeded"]}


def create_id_pool(context: CheckContext) -> dict[str, list[str]]:
    """Name of a path parameter or of a body's field -> ids."""
    client = context.get_client(strict=False)
    files = [client.files.create(file=("rows.jsonl", ROW * 20), purpose="fine-tune").id for _ in range(OBJECT_COUNT)]
    jobs = [create_job(context).id for _ in range(OBJECT_COUNT)]
    checkpoints = client.fine_tuning.jobs.checkpoints.list(context.job).data
    batch_files = [client.files.create(file=("b.jsonl", b"{}"), purpose="batch").id for _ in range(OBJECT_COUNT)]
    names = [context.model, *context.spare_models, "starter", "encoder"]
    return {
        "file_id": files,
        "training_file": files,
        "validation_file": files,
        "general_file": files,
        "job_id": [context.job, *jobs],
        "model": [*names, *(each.fine_tuned_model_checkpoint for each in checkpoints)],
        "checkpoint": [each.fine_tuned_model_checkpoint for each in checkpoints],
        "checkpoint_id": [each.id for each in checkpoints],
        "input_file_id": batch_files,
        "batch_id": [_create_batch(client, file) for file in batch_files[: OBJECT_COUNT // 2]],
        "upload_id": [_create_upload(client) for _ in range(OBJECT_COUNT)],
        "webhook_id": [_create_object(client, "/webhook_endpoints", WEBHOOK_BODY) for _ in range(OBJECT_COUNT // 2)],
        **_create_projects(client),
    }


def _create_object(client: Any, path: str, body: dict[str, Any]) -> str:
    found: str = client.post(path, body=body, cast_to=object)["id"]
    return found


def _create_batch(client: Any, file: str) -> str:
    endpoint = "/v1/chat/completions"
    found: str = client.batches.create(input_file_id=file, endpoint=endpoint, completion_window="24h").id
    return found


def _create_upload(client: Any) -> str:
    size = len(ROW)
    made = client.uploads.create(bytes=size, filename="u.jsonl", mime_type="application/jsonl", purpose="fine-tune")
    found: str = made.id
    return found


def _create_projects(client: Any) -> dict[str, list[str]]:
    """Projects to archive and keys to revoke; ``own`` are those that the requests themselves need."""
    projects = [
        _create_object(client, "/organization/projects", {"name": f"spare {n}"}) for n in range(OBJECT_COUNT // 2)
    ]
    keys = [_create_object(client, f"/organization/projects/{each}/api_keys", {"name": "spare"}) for each in projects]
    me = client.get("/me", cast_to=object)
    return {"project_id": projects, "key_id": keys, "own": [me["project"]["id"], me["key"]["id"]]}

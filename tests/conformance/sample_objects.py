"""Objects created through the API before fuzzing, so that requests get more than 404s."""

from __future__ import annotations

from typing import Any

from tests.conformance.client.context import CheckContext
from tests.conformance.client.files import ROW
from tests.conformance.client.jobs import create_job

OBJECT_COUNT = 12
"""Number of objects of each kind. Fuzzed requests delete and cancel them."""

# An IP address needs no DNS lookup, and without a worker nothing is sent.
WEBHOOK_BODY = {"name": "fuzz", "url": "https://93.184.215.14/hook", "event_types": ["fine_tuning.job.succeeded"]}


def create_id_pool(context: CheckContext) -> dict[str, list[str]]:
    """Create objects. Returns a map from the name of a path parameter or body field to ids."""
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
        "model": [*names, *(checkpoint.fine_tuned_model_checkpoint for checkpoint in checkpoints)],
        "checkpoint": [checkpoint.fine_tuned_model_checkpoint for checkpoint in checkpoints],
        "checkpoint_id": [checkpoint.id for checkpoint in checkpoints],
        "input_file_id": batch_files,
        "batch_id": [_create_batch(client, file) for file in batch_files[: OBJECT_COUNT // 2]],
        "upload_id": [_create_upload(client) for _ in range(OBJECT_COUNT)],
        "webhook_id": [_create_object(client, "/webhook_endpoints", WEBHOOK_BODY) for _ in range(OBJECT_COUNT // 2)],
        **_create_projects(client),
    }


def _create_object(client: Any, path: str, body: dict[str, Any]) -> str:
    object_id: str = client.post(path, body=body, cast_to=object)["id"]
    return object_id


def _create_batch(client: Any, file: str) -> str:
    endpoint = "/v1/chat/completions"
    batch_id: str = client.batches.create(input_file_id=file, endpoint=endpoint, completion_window="24h").id
    return batch_id


def _create_upload(client: Any) -> str:
    size = len(ROW)
    upload = client.uploads.create(bytes=size, filename="u.jsonl", mime_type="application/jsonl", purpose="fine-tune")
    upload_id: str = upload.id
    return upload_id


def _create_projects(client: Any) -> dict[str, list[str]]:
    """Create projects to archive and keys to revoke. ``own`` has the ids that the requests use."""
    projects = [
        _create_object(client, "/organization/projects", {"name": f"spare {n}"}) for n in range(OBJECT_COUNT // 2)
    ]
    keys = [
        _create_object(client, f"/organization/projects/{project}/api_keys", {"name": "spare"}) for project in projects
    ]
    me = client.get("/me", cast_to=object)
    return {"project_id": projects, "key_id": keys, "own": [me["project"]["id"], me["key"]["id"]]}

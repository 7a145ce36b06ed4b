"""Lookup of models by name, with the API's errors for missing ones."""

from __future__ import annotations

from api.errors import InvalidRequest, NotFound
from inference.protocol.model_ref import ModelRef
from jobs.blob_keys import JobPath, parse_job_path
from jobs.model_lookup import NO_SUCH_MODEL, find_model
from jobs.resources import Resources
from storage.registry import BaseModelEntry
from storage.tables import Model


def model_not_found() -> NotFound:
    return NotFound(NO_SUCH_MODEL, param="model", code="model_not_found")


def get_job_path(model: Model | ModelRef) -> JobPath:
    """Return the project and the job that trained a model.

    The project may differ from the caller's.
    """
    if isinstance(model, Model):
        return JobPath(model.project_id, model.job_id)
    return parse_job_path(str(model.prefix))


async def get_tuned_model_or_404(resources: Resources, project_id: str, name: str) -> ModelRef:
    """Return a finished model or a checkpoint.

    Raises ``NotFound``, and ``InvalidRequest`` for a base model.
    """
    model = await find_model(resources, project_id, name)
    if isinstance(model, BaseModelEntry):
        raise InvalidRequest(
            f"'{model.id}' is a base model; only fine-tuned models can be downloaded.",
            param="model",
            code="unsuitable_model",
        )
    if model is None:
        raise model_not_found()
    return ModelRef.from_model(model) if isinstance(model, Model) else model

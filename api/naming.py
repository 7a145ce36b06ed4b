"""Names of models in requests: :mod:`jobs.model_lookup`, with the API's errors."""

from __future__ import annotations

from api.errors import InvalidRequest, NotFound
from inference.protocol.model_ref import ModelRef
from jobs.model_lookup import NO_SUCH_MODEL, Found, answering_ref, checkpoint_ref, find, shared
from jobs.resources import Rooms
from storage.registry import BaseModelEntry
from storage.tables import Model

__all__ = [
    "NO_SUCH_MODEL",
    "Found",
    "answering_ref",
    "checkpoint_ref",
    "find",
    "job_of",
    "no_such_model",
    "owner_of",
    "shared",
    "tuned_ref",
]


def no_such_model() -> NotFound:
    return NotFound(NO_SUCH_MODEL, param="model", code="model_not_found")


def owner_of(found: Model | ModelRef) -> str:
    """The project whose job made it."""
    # Blobs of a project lie under its id.
    return found.project_id if isinstance(found, Model) else str(found.prefix).split("/")[1]


def job_of(found: Model | ModelRef) -> str:
    """Id of the job that made it."""
    return found.job_id if isinstance(found, Model) else str(found.prefix).split("/")[3]


async def tuned_ref(rooms: Rooms, project_id: str, name: str) -> ModelRef:
    """A finished model or a checkpoint. Raises ``NotFound``, and ``InvalidRequest`` for a base model."""
    found = await find(rooms, project_id, name)
    if isinstance(found, BaseModelEntry):
        raise InvalidRequest(
            f"'{found.id}' is a base model; only what was trained here can be downloaded.",
            param="model",
            code="unsuitable_model",
        )
    if found is None:
        raise no_such_model()
    return ModelRef.of_result(found) if isinstance(found, Model) else found

"""Models on the wire."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel

from inference.protocol.model_ref import ModelRef
from storage.registry import BaseModelEntry
from storage.tables import Model


class ModelOut(BaseModel):
    """A base model or a finished one."""

    id: str
    object: Literal["model"] = "model"
    created: int
    """0 for a base model, which the operator lists without a date."""
    owned_by: str
    """``luthier`` for a base model, else the project."""
    tasks: list[str]
    """What can be trained on a base model, the first by default; what a finished one was trained for."""
    base_model: str | None
    """What a finished model was tuned from."""
    update: str | None
    available: bool
    """False: listed by the operator, but its files are not on this machine yet."""


class ModelsOut(BaseModel):
    object: Literal["list"] = "list"
    data: list[ModelOut]


class ModelDeleted(BaseModel):
    id: str
    object: Literal["model"] = "model"
    deleted: Literal[True] = True


def to_base_model_out(entry: BaseModelEntry) -> ModelOut:
    return ModelOut(
        id=entry.id,
        created=0,
        owned_by="luthier",
        tasks=entry.tasks,
        base_model=None,
        update=None,
        available=entry.location is not None,
    )


def to_tuned_model_out(model: Model) -> ModelOut:
    return ModelOut(
        id=model.id,
        created=int(model.created_at),
        owned_by=model.project_id,
        tasks=[model.task],
        base_model=model.base_model,
        update=model.update,
        available=True,
    )


def to_checkpoint_model_out(ref: ModelRef, project_id: str) -> ModelOut:
    return ModelOut(
        id=ref.id,
        created=0,
        owned_by=project_id,
        tasks=[ref.task],
        base_model=ref.base,
        update=ref.update,
        available=True,
    )

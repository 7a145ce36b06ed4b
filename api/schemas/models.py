"""Bodies of the model routes."""

from __future__ import annotations

from typing import Literal

from api.schemas.base import ResponseModel
from inference.protocol.model_ref import ModelRef
from storage.registry import BaseModelEntry
from storage.tables import Model


class ModelOut(ResponseModel):
    """A base model, a fine-tuned model or a checkpoint."""

    id: str
    object: Literal["model"] = "model"
    created: int
    """0 for base models, which the operator lists without a date, and for checkpoints."""
    owned_by: str
    """``luthier`` for a base model, else the project's id."""
    tasks: list[str]
    """Tasks of a base model, the default first, or the task of a fine-tuned model."""
    base_model: str | None
    """Base model of a fine-tuned model."""
    update: str | None
    available: bool
    """False if the operator lists the model but its files are not on this machine yet."""


class ModelsOut(ResponseModel):
    object: Literal["list"] = "list"
    data: list[ModelOut]


class ModelDeleted(ResponseModel):
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

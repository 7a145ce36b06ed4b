"""Lookup of models by name: a base model of the registry, a finished model, or a job's checkpoint.

Except for base models, lookups are scoped to one project: another project's model does not exist
for it, unless the owner grants access (``api/routes/fine_tuning/permissions.py``).
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, exists, or_, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from inference.protocol.errors import EngineError
from inference.protocol.model_ref import ModelRef
from inference.protocol.routes import build_wrong_route_message, filter_tasks_by_route
from jobs.lifecycle.states import checkpoint_name
from jobs.resources import Resources
from storage.clock import is_unexpired
from storage.registry import BaseModelEntry
from storage.tables import Checkpoint, CheckpointPermission, Job, Model
from training.tasks.base import Route

NO_SUCH_MODEL = "This model does not exist for this key. GET /v1/models lists the available models."
_CHECKPOINT_SEPARATOR = ":ckpt-step-"

AnyModel = BaseModelEntry | Model | ModelRef
"""A base model, a finished model, or a checkpoint in the engine's form."""


async def find_model(resources: Resources, project_id: str, name: str) -> AnyModel | None:
    """Return the model, or None if the project has no access to one of this name.

    Deleted and expired models no longer exist.
    """
    if entry := resources.registry.get(name):
        return entry
    async with resources.db.read() as session:
        return await _find_fine_tuned_model(session, project_id, name) or await _find_checkpoint(
            session, project_id, name
        )


async def _find_fine_tuned_model(session: AsyncSession, project_id: str, name: str) -> Model | None:
    conditions = [
        col(Model.id) == name,
        _is_usable(col(Model.project_id), project_id, name),
        col(Model.deleted_at).is_(None),
    ]
    return (await session.execute(select(Model).where(*conditions))).scalar_one_or_none()


async def list_shared_models(resources: Resources, project_id: str) -> list[Model | ModelRef]:
    """Return other projects' models and checkpoints that this one may use, oldest grant first."""
    conditions = [
        col(CheckpointPermission.project_id) == project_id,
        col(CheckpointPermission.owner_project_id) != project_id,
    ]
    query = select(col(CheckpointPermission.checkpoint_model)).where(*conditions)
    query = query.order_by(col(CheckpointPermission.created_at), col(CheckpointPermission.id))
    async with resources.db.read() as session:
        names = (await session.execute(query)).scalars().all()
        models = [
            await _find_fine_tuned_model(session, project_id, name) or await _find_checkpoint(session, project_id, name)
            for name in names
        ]
    return [model for model in models if model]


def _is_usable(owner_column: Any, project_id: str, name: str) -> ColumnElement[bool]:
    """Return a condition that holds for the project's own models and for those granted to it.

    ``owner_column`` holds the project that owns the model.
    """
    granted = exists().where(
        col(CheckpointPermission.checkpoint_model) == name,
        col(CheckpointPermission.project_id) == project_id,
        col(CheckpointPermission.owner_project_id) == owner_column,
    )
    return or_(owner_column == project_id, granted)


async def _find_checkpoint(session: AsyncSession, project_id: str, name: str) -> ModelRef | None:
    model, separator, step = name.rpartition(_CHECKPOINT_SEPARATOR)
    if not separator or not step.isascii() or not step.isdigit() or len(step) > 9:
        return None
    query = (
        select(Job, Checkpoint)
        .join(Checkpoint, col(Checkpoint.job_id) == col(Job.id))
        .where(
            _is_usable(col(Job.project_id), project_id, name),
            # A model's name ends in the last characters of its job's id.
            col(Job.id).endswith(model.rpartition(":")[2], autoescape=True),
            col(Checkpoint.step) == int(step),
            col(Checkpoint.published).is_(True),
            is_unexpired(col(Checkpoint.expires_at)),
        )
    )
    for job, checkpoint in (await session.execute(query)).all():
        if checkpoint_name(job, checkpoint.step) == name:
            return ref_from_checkpoint(job, checkpoint)
    return None


def ref_from_checkpoint(job: Job, checkpoint: Checkpoint) -> ModelRef:
    return ModelRef(
        id=checkpoint_name(job, checkpoint.step),
        base=job.base_model,
        task=job.task,
        update=job.update["type"],
        prefix=checkpoint.prefix,
        part="model/",
        manifest_sha256=checkpoint.manifest_sha256,
    )


async def resolve_for_route(resources: Resources, project_id: str, name: str, route: Route) -> ModelRef:
    """Return the model that serves ``POST /v1/{route}``.

    A base model with several tasks for the route uses the first of them.
    Raises ``EngineError`` and ``ModelNotPulled``.
    """
    model = await find_model(resources, project_id, name)
    if model is None:
        raise EngineError("model_not_found", NO_SUCH_MODEL, "model")
    if isinstance(model, BaseModelEntry):
        tasks = filter_tasks_by_route(model.tasks, route)
        if not tasks:
            raise _build_unsuitable_model_error(model.id, model.tasks)
        model.require_location()
        return ModelRef.from_base(model.id, tasks[0])
    ref = ModelRef.from_model(model) if isinstance(model, Model) else model
    if not filter_tasks_by_route([ref.task], route):
        raise _build_unsuitable_model_error(ref.id, [ref.task])
    return ref


def _build_unsuitable_model_error(name: str, tasks: list[str]) -> EngineError:
    return EngineError("unsuitable_model", build_wrong_route_message(name, tasks), "model")

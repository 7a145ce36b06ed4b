"""From the name of a model to the model: a base of the registry, a finished model, or a job's checkpoint.

Everything but the bases is looked up within one project, so another project's model is not there at all, unless its
owner lets this project use it (``api/routes/fine_tuning/permissions.py``).
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

NO_SUCH_MODEL = "There is no such model for this key; GET /v1/models lists those that there are."
_CHECKPOINT_SEPARATOR = ":ckpt-step-"

AnyModel = BaseModelEntry | Model | ModelRef
"""A base, a finished model, or a checkpoint as the engine knows it."""


async def find_model(resources: Resources, project_id: str, name: str) -> AnyModel | None:
    """None for what does not exist, was deleted, has expired, or is another project's that this one may not use."""
    if entry := resources.registry.get(name):
        return entry
    async with resources.db.read() as session:
        return await _find_fine_tuned_model(session, project_id, name) or await _find_checkpoint(
            session, project_id, name
        )


async def _find_fine_tuned_model(session: AsyncSession, project_id: str, name: str) -> Model | None:
    usable = [
        col(Model.id) == name,
        _is_usable(col(Model.project_id), project_id, name),
        col(Model.deleted_at).is_(None),
    ]
    return (await session.execute(select(Model).where(*usable))).scalar_one_or_none()


async def list_shared_models(resources: Resources, project_id: str) -> list[Model | ModelRef]:
    """Finished models and checkpoints of other projects that this one may use, in the order in which it was let."""
    mine = [
        col(CheckpointPermission.project_id) == project_id,
        col(CheckpointPermission.owner_project_id) != project_id,
    ]
    granted = select(col(CheckpointPermission.checkpoint_model)).where(*mine)
    granted = granted.order_by(col(CheckpointPermission.created_at), col(CheckpointPermission.id))
    async with resources.db.read() as session:
        names = (await session.execute(granted)).scalars().all()
        found = [
            await _find_fine_tuned_model(session, project_id, name) or await _find_checkpoint(session, project_id, name)
            for name in names
        ]
    return [model for model in found if model]


def _is_usable(owner_column: Any, project_id: str, name: str) -> ColumnElement[bool]:
    """The project's own, or granted to it by ``owner``, a column."""
    granted = exists().where(
        col(CheckpointPermission.checkpoint_model) == name,
        col(CheckpointPermission.project_id) == project_id,
        col(CheckpointPermission.owner_project_id) == owner_column,
    )
    return or_(owner_column == project_id, granted)


async def _find_checkpoint(session: AsyncSession, project_id: str, name: str) -> ModelRef | None:
    model, found, step = name.rpartition(_CHECKPOINT_SEPARATOR)
    if not found or not step.isascii() or not step.isdigit() or len(step) > 9:
        return None
    query = (
        select(Job, Checkpoint)
        .join(Checkpoint, col(Checkpoint.job_id) == col(Job.id))
        .where(
            _is_usable(col(Job.project_id), project_id, name),
            # A model's name ends in its job's last characters.
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
    """A model that answers at ``POST /v1/{route}``. Raises ``EngineError`` and ``ModelNotPulled``.

    A base that answers for several tasks there does so for the first of them.
    """
    found = await find_model(resources, project_id, name)
    if found is None:
        raise EngineError("model_not_found", NO_SUCH_MODEL, "model")
    if isinstance(found, BaseModelEntry):
        suitable = filter_tasks_by_route(found.tasks, route)
        if not suitable:
            raise _build_unsuitable_model_error(found.id, found.tasks)
        found.require_location()
        return ModelRef.from_base(found.id, suitable[0])
    ref = ModelRef.from_model(found) if isinstance(found, Model) else found
    if not filter_tasks_by_route([ref.task], route):
        raise _build_unsuitable_model_error(ref.id, [ref.task])
    return ref


def _build_unsuitable_model_error(name: str, tasks: list[str]) -> EngineError:
    return EngineError("unsuitable_model", build_wrong_route_message(name, tasks), "model")

"""From the name of a model to the model: a base of the registry, a finished model, or a job's checkpoint.

Everything but the bases is looked up within one project, so another project's model is not there at all.
"""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from api.errors import InvalidRequest, NotFound
from inference.refs import ModelRef
from inference.routes import answering, elsewhere
from jobs.rooms import Rooms
from jobs.states import checkpoint_name
from storage.registry import BaseModelEntry
from storage.tables import Checkpoint, Job, Model
from training.tasks.base import Route

NO_SUCH_MODEL = "There is no such model for this key; GET /v1/models lists those that there are."
_STEP = ":ckpt-step-"

Found = BaseModelEntry | Model | ModelRef
"""A base, a finished model, or a checkpoint as the engine knows it."""


def no_such_model() -> NotFound:
    return NotFound(NO_SUCH_MODEL, param="model", code="model_not_found")


async def find(rooms: Rooms, project_id: str, name: str) -> Found | None:
    """None for what does not exist, was deleted, or is another project's."""
    if entry := rooms.registry.get(name):
        return entry
    async with rooms.db.read() as session:
        return await own_model(session, project_id, name) or await _checkpoint(session, project_id, name)


async def own_model(session: AsyncSession, project_id: str, name: str) -> Model | None:
    mine = [col(Model.id) == name, col(Model.project_id) == project_id, col(Model.deleted_at).is_(None)]
    return (await session.execute(select(Model).where(*mine))).scalar_one_or_none()


async def _checkpoint(session: AsyncSession, project_id: str, name: str) -> ModelRef | None:
    model, found, step = name.rpartition(_STEP)
    if not found or not step.isascii() or not step.isdigit() or len(step) > 9:
        return None
    query = (
        select(Job, Checkpoint)
        .join(Checkpoint, col(Checkpoint.job_id) == col(Job.id))
        .where(
            col(Job.project_id) == project_id,
            # A model's name ends in its job's last characters.
            col(Job.id).endswith(model.rpartition(":")[2], autoescape=True),
            col(Checkpoint.step) == int(step),
            col(Checkpoint.keep).is_(True),
        )
    )
    for job, checkpoint in (await session.execute(query)).all():
        if checkpoint_name(job, checkpoint.step) == name:
            return checkpoint_ref(job, checkpoint)
    return None


def checkpoint_ref(job: Job, checkpoint: Checkpoint) -> ModelRef:
    return ModelRef(
        id=checkpoint_name(job, checkpoint.step),
        base=job.base_model,
        task=job.task,
        update=job.update["type"],
        prefix=checkpoint.prefix,
        part="model/",
        manifest_sha256=checkpoint.manifest_sha256,
    )


async def tuned_ref(rooms: Rooms, project_id: str, name: str) -> ModelRef:
    """A finished model or a checkpoint. Raises ``NotFound``, and ``InvalidRequest`` for a base model."""
    found = await find(rooms, project_id, name)
    if isinstance(found, BaseModelEntry):
        raise InvalidRequest(
            f"'{found.id}' is a base model; only what was trained here can be downloaded.",
            param="model",
            code="unsuitable_model",
        )
    return _ref(found)


async def answering_ref(rooms: Rooms, project_id: str, name: str, route: Route) -> ModelRef:
    """A model that answers at ``POST /v1/{route}``. Raises ``NotFound``, ``InvalidRequest`` and ``ModelNotPulled``.

    A base that answers for several tasks there does so for the first of them.
    """
    found = await find(rooms, project_id, name)
    if isinstance(found, BaseModelEntry):
        suitable = answering(found.tasks, route)
        if not suitable:
            raise _unsuitable(found.id, found.tasks)
        found.require()
        return ModelRef.of_base(found.id, suitable[0])
    ref = _ref(found)
    if not answering([ref.task], route):
        raise _unsuitable(ref.id, [ref.task])
    return ref


def _ref(found: Model | ModelRef | None) -> ModelRef:
    if found is None:
        raise no_such_model()
    return ModelRef.of_result(found) if isinstance(found, Model) else found


def _unsuitable(name: str, tasks: list[str]) -> InvalidRequest:
    return InvalidRequest(elsewhere(name, tasks), param="model", code="unsuitable_model")

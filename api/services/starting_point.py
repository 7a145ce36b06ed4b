"""Starting point of a new job: a base model, or an earlier result to continue from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select
from sqlmodel import col

from api.errors import InvalidRequest
from inference.protocol.model_ref import ModelRef
from jobs import model_lookup
from jobs.blob_keys import parse_job_path
from jobs.lifecycle.states import checkpoint_name
from jobs.resources import Resources
from jobs.retention import checkpoints
from storage.ids import PREFIXES
from storage.registry import BaseModelEntry
from storage.tables import Checkpoint, Job, Model
from training.updates import UPDATES, AnyUpdate
from training.updates.lora import LoraUpdate

_NOT_FOUND_MESSAGES = {
    "model": model_lookup.NO_SUCH_MODEL,
    "from_checkpoint": "There is no such checkpoint for this key; send a model's id, or a job's id, ':', and a step "
    "from GET /v1/fine_tuning/jobs/{id}/checkpoints.",
}


@dataclass(frozen=True)
class StartingPoint:
    """A base model and, if the job continues an earlier result, that result."""

    base: BaseModelEntry
    ref: ModelRef | None = None
    update: dict[str, Any] | None = None
    """Update that trained the result."""

    @property
    def start_column(self) -> dict[str, Any] | None:
        """Value of the job's column ``starting_point``."""
        if self.ref is None:
            return None
        return {"model": self.ref.id, **self.ref.model_dump(include={"prefix", "manifest_sha256", "part"})}

    def check(self, task: str, update: AnyUpdate) -> None:
        """Check that an adapter continues as the same adapter, and full weights as full weights.

        Raises ``InvalidRequest``.
        """
        if self.ref is None or self.update is None:
            return
        if task != self.ref.task:
            raise _unsuitable_model(
                f"'{self.ref.id}' was trained for the task '{self.ref.task}'; leave 'task' out.", "task"
            )
        is_adapter, was_adapter = isinstance(update, LoraUpdate), self.update["type"] == "lora"
        if is_adapter != was_adapter or (
            is_adapter and _get_adapter_shape(update) != _get_adapter_shape(_parse_update(self.update))
        ):
            raise _unsuitable_model(
                f"'{self.ref.id}' was trained with the update {self.update}. An adapter continues with the same "
                "settings, and full weights continue with 'full', 'head' or 'layers'. Leave 'update' out to "
                "continue with the same update.",
                "update",
            )


async def resolve_starting_point(
    resources: Resources, project_id: str, model: str | None, from_checkpoint: str | None
) -> StartingPoint:
    """Resolve the two fields of a new job. Raises ``InvalidRequest``, ``ModelNotPulled``."""
    if from_checkpoint is None:
        if model is None:
            raise InvalidRequest(
                "Missing required parameter: 'model'.", param="model", code="missing_required_parameter"
            )
        return await _starting_point_from_name(resources, project_id, model, "model")
    name = await _resolve_model_name(resources, project_id, from_checkpoint)
    starting_point = await _starting_point_from_name(resources, project_id, name, "from_checkpoint")
    base, ref = starting_point.base, starting_point.ref
    if ref is None:
        raise _unsuitable_model(f"'{base.id}' is a base model; send it as 'model'.", "from_checkpoint")
    entry = resources.registry.get(model) if model else None
    if model not in (None, ref.id) and entry != base:
        raise _unsuitable_model(f"'{ref.id}' was not trained from this model; leave 'model' out.", "model")
    return starting_point


async def _resolve_model_name(resources: Resources, project_id: str, text: str) -> str:
    """Return the model's name for ``{job id or model}[:step]``. The model may not exist."""
    name, _, step = text.rpartition(":")
    has_step = step.isascii() and step.isdigit() and len(step) < 10
    if not text.startswith(PREFIXES["job"]):
        # A model's own name may end in digits.
        is_name = not (name and has_step) or await model_lookup.find_model(resources, project_id, text)
        return text if is_name else f"{name}:ckpt-step-{int(step)}"
    async with resources.db.read() as session:
        conditions = [col(Job.id) == (name or text), col(Job.project_id) == project_id]
        job = (await session.execute(select(Job).where(*conditions))).scalar_one_or_none()
        if job is None:
            return text
        if name:
            return checkpoint_name(job, int(step)) if has_step else text
        query = select(func.max(col(Checkpoint.step))).where(
            col(Checkpoint.job_id) == job.id, *checkpoints.is_published()
        )
        newest_step: int | None = (await session.execute(query)).scalar_one()
    return job.fine_tuned_model or (text if newest_step is None else checkpoint_name(job, newest_step))


async def _starting_point_from_name(resources: Resources, project_id: str, name: str, param: str) -> StartingPoint:
    model = await model_lookup.find_model(resources, project_id, name)
    if model is None:
        raise InvalidRequest(_NOT_FOUND_MESSAGES[param], param=param, code="model_not_found")
    if isinstance(model, BaseModelEntry):
        model.require_location()
        return StartingPoint(model)
    ref = ModelRef.from_model(model) if isinstance(model, Model) else model
    base = resources.registry.get(ref.base)
    if base is None:
        raise _unsuitable_model(
            f"The base model of '{ref.id}' is no longer available; start from another model.", param
        )
    base.require_location()
    async with resources.db.read() as session:
        # The job may belong to another project.
        job_id = parse_job_path(str(ref.prefix)).job_id
        job = (await session.execute(select(Job).where(col(Job.id) == job_id))).scalar_one()
    return StartingPoint(base, ref, job.update)


def _parse_update(update: dict[str, Any]) -> AnyUpdate:
    """Parse the update of a job's row. Fields that the row lacks get their defaults."""
    return UPDATES[update["type"]].model_validate(update)


def _get_adapter_shape(update: AnyUpdate) -> dict[str, Any]:
    """Return the settings that two adapters must share for one to continue the other."""
    return update.model_dump(exclude={"dropout"})


def _unsuitable_model(message: str, param: str) -> InvalidRequest:
    return InvalidRequest(message, param=param, code="unsuitable_model")

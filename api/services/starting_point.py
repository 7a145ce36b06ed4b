"""What a new job begins from: a base model, or an earlier result that it goes on from."""

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
    "from_checkpoint": "There is no such checkpoint for this key; send a model's id, or a job's id with ':' and a step "
    "of GET /v1/fine_tuning/jobs/{id}/checkpoints.",
}


@dataclass(frozen=True)
class StartingPoint:
    """The base model, and the result on it where there is one."""

    base: BaseModelEntry
    ref: ModelRef | None = None
    update: dict[str, Any] | None = None
    """How that result was made."""

    @property
    def start_column(self) -> dict[str, Any] | None:
        """For the job's row."""
        if self.ref is None:
            return None
        return {"model": self.ref.id, **self.ref.model_dump(include={"prefix", "manifest_sha256", "part"})}

    def check(self, task: str, update: AnyUpdate) -> None:
        """An adapter goes on as the same adapter, whole weights as whole weights. Raises ``InvalidRequest``."""
        if self.ref is None or self.update is None:
            return
        if task != self.ref.task:
            raise _unsuitable_model(f"'{self.ref.id}' is a {self.ref.task} model and goes on as one.", "task")
        adapters = [isinstance(update, LoraUpdate), self.update["type"] == "lora"]
        if len(set(adapters)) > 1 or (
            adapters[0] and _get_adapter_shape(update) != _get_adapter_shape(_parse_update(self.update))
        ):
            raise _unsuitable_model(
                f"'{self.ref.id}' was made by the update {self.update}; an adapter goes on as it is, and whole "
                "weights by 'full', 'head' or 'layers'. Leave 'update' out to go on in the same way.",
                "update",
            )


async def resolve_starting_point(
    resources: Resources, project_id: str, model: str | None, from_checkpoint: str | None
) -> StartingPoint:
    """From the two fields of a new job. Raises ``InvalidRequest``, ``ModelNotPulled``."""
    if from_checkpoint is None:
        if model is None:
            raise InvalidRequest(
                "Missing required parameter: 'model'.", param="model", code="missing_required_parameter"
            )
        return await _starting_point_from_name(resources, project_id, model, "model")
    found = await _starting_point_from_name(
        resources, project_id, await _resolve_model_name(resources, project_id, from_checkpoint), "from_checkpoint"
    )
    if found.ref is None:
        raise _unsuitable_model(f"'{found.base.id}' is a base model; send it as 'model'.", "from_checkpoint")
    entry = resources.registry.get(model) if model else None
    if model not in (None, found.ref.id) and entry != found.base:
        raise _unsuitable_model(f"'{found.ref.id}' was not made from this model; leave it out.", "model")
    return found


async def _resolve_model_name(resources: Resources, project_id: str, text: str) -> str:
    """The model's name for ``{job id or model}[:step]``, which may be a name of nothing."""
    name, _, step = text.rpartition(":")
    stepped = step.isascii() and step.isdigit() and len(step) < 10
    if not text.startswith(PREFIXES["job"]):
        # A model's own name may end in digits.
        known = not (name and stepped) or await model_lookup.find_model(resources, project_id, text)
        return text if known else f"{name}:ckpt-step-{int(step)}"
    async with resources.db.read() as session:
        mine = [col(Job.id) == (name or text), col(Job.project_id) == project_id]
        job = (await session.execute(select(Job).where(*mine))).scalar_one_or_none()
        if job is None:
            return text
        if name:
            return checkpoint_name(job, int(step)) if stepped else text
        newest = select(func.max(col(Checkpoint.step))).where(
            col(Checkpoint.job_id) == job.id, *checkpoints.is_published()
        )
        last: int | None = (await session.execute(newest)).scalar_one()
    return job.fine_tuned_model or (text if last is None else checkpoint_name(job, last))


async def _starting_point_from_name(resources: Resources, project_id: str, name: str, param: str) -> StartingPoint:
    found = await model_lookup.find_model(resources, project_id, name)
    if found is None:
        raise InvalidRequest(_NOT_FOUND_MESSAGES[param], param=param, code="model_not_found")
    if isinstance(found, BaseModelEntry):
        found.require_location()
        return StartingPoint(found)
    ref = ModelRef.from_model(found) if isinstance(found, Model) else found
    base = resources.registry.get(ref.base)
    if base is None:
        raise _unsuitable_model(f"The base model of '{ref.id}' is no longer offered.", param)
    base.require_location()
    async with resources.db.read() as session:
        # The job may be another project's.
        made_by = col(Job.id) == parse_job_path(str(ref.prefix)).job_id
        job = (await session.execute(select(Job).where(made_by))).scalar_one()
    return StartingPoint(base, ref, job.update)


def _parse_update(update: dict[str, Any]) -> AnyUpdate:
    """As the job's row keeps it; what has a default since then is given it."""
    return UPDATES[update["type"]].model_validate(update)


def _get_adapter_shape(update: AnyUpdate) -> dict[str, Any]:
    """What an adapter's weights must agree in."""
    return update.model_dump(exclude={"dropout"})


def _unsuitable_model(message: str, param: str) -> InvalidRequest:
    return InvalidRequest(message, param=param, code="unsuitable_model")

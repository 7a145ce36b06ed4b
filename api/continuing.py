"""What a new job begins from: a base model, or an earlier result that it goes on from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlmodel import col

from api import naming
from api.errors import InvalidRequest
from inference.refs import ModelRef
from jobs.rooms import Rooms
from storage.registry import BaseModelEntry
from storage.tables import Job, Model
from training.updates import UPDATES, AnyUpdate
from training.updates.lora import LoraUpdate


@dataclass(frozen=True)
class Beginning:
    """The base model, and the result on it where there is one."""

    base: BaseModelEntry
    start: ModelRef | None = None
    update: dict[str, Any] | None = None
    """How that result was made."""

    @property
    def row(self) -> dict[str, Any] | None:
        """For the job's row."""
        if self.start is None:
            return None
        return {"model": self.start.id, **self.start.model_dump(include={"prefix", "manifest_sha256", "part"})}

    def check(self, task: str, update: AnyUpdate) -> None:
        """An adapter goes on as the same adapter, whole weights as whole weights. Raises ``InvalidRequest``."""
        if self.start is None or self.update is None:
            return
        if task != self.start.task:
            raise _unsuitable(f"'{self.start.id}' is a {self.start.task} model and goes on as one.", "task")
        adapters = [isinstance(update, LoraUpdate), self.update["type"] == "lora"]
        if len(set(adapters)) > 1 or (adapters[0] and _shape(update) != _shape(_made(self.update))):
            raise _unsuitable(
                f"'{self.start.id}' was made by the update {self.update}; an adapter goes on as it is, and whole "
                "weights by 'full', 'head' or 'layers'. Leave 'update' out to go on in the same way.",
                "update",
            )


async def beginning(rooms: Rooms, project_id: str, name: str) -> Beginning:
    """Raises ``InvalidRequest``, ``ModelNotPulled``."""
    found = await naming.find(rooms, project_id, name)
    if found is None:
        raise InvalidRequest(naming.NO_SUCH_MODEL, param="model", code="model_not_found")
    if isinstance(found, BaseModelEntry):
        found.require()
        return Beginning(found)
    ref = ModelRef.of_result(found) if isinstance(found, Model) else found
    base = rooms.registry.get(ref.base)
    if base is None:
        raise _unsuitable(f"The base model of '{ref.id}' is no longer offered.", "model")
    base.require()
    async with rooms.db.read() as session:
        # Blobs of a job lie under its id, and its checkpoints beside its result.
        mine = [col(Job.project_id) == project_id, col(Job.id) == str(ref.prefix).split("/")[3]]
        job = (await session.execute(select(Job).where(*mine))).scalar_one()
    return Beginning(base, ref, job.update)


def _made(update: dict[str, Any]) -> AnyUpdate:
    """As the job's row keeps it; what has a default since then is given it."""
    return UPDATES[update["type"]].model_validate(update)


def _shape(update: AnyUpdate) -> dict[str, Any]:
    """What an adapter's weights must agree in."""
    return update.model_dump(exclude={"dropout"})


def _unsuitable(message: str, param: str) -> InvalidRequest:
    return InvalidRequest(message, param=param, code="unsuitable_model")

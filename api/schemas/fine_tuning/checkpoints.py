"""Bodies of the routes that change or delete checkpoints."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from api.schemas.base import ResponseModel, StrictModel
from api.schemas.fine_tuning.jobs import CheckpointLifetime, Reference


class CheckpointUpdateIn(StrictModel):
    """Changes to a checkpoint."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"ttl_seconds": 604_800}]})

    ttl_seconds: CheckpointLifetime | None
    """Lifetime from now on; null means that the checkpoint does not expire."""


class CheckpointSelectionIn(StrictModel):
    """A selection of checkpoints: by their ids, or all before a step."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"older_than_step": 100}]})

    ids: Annotated[list[Reference], Field(min_length=1, max_length=1000)] | None = None
    older_than_step: Annotated[int, Field(ge=1, le=2**31 - 1)] | None = None

    @model_validator(mode="after")
    def _check_selection(self) -> Self:
        if (self.ids is None) == (self.older_than_step is None):
            raise ValueError("send either ids or older_than_step")
        return self


class CheckpointDeleted(ResponseModel):
    id: str
    object: Literal["fine_tuning.job.checkpoint"] = "fine_tuning.job.checkpoint"
    deleted: Literal[True] = True

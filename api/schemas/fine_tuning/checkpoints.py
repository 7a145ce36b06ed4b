"""Checkpoints on the wire: how long they stay, and which of them go."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from api.schemas.fine_tuning.jobs import CheckpointLifetime, Reference


class CheckpointUpdateIn(BaseModel):
    """What can be changed of a checkpoint."""

    model_config = ConfigDict(extra="forbid", strict=True, json_schema_extra={"examples": [{"ttl_seconds": 604_800}]})

    ttl_seconds: CheckpointLifetime | None
    """From now on; null: it stays until it is deleted."""


class CheckpointSelectionIn(BaseModel):
    """Which checkpoints: by their ids, or all before a step."""

    model_config = ConfigDict(extra="forbid", strict=True, json_schema_extra={"examples": [{"older_than_step": 100}]})

    ids: Annotated[list[Reference], Field(min_length=1, max_length=1000)] | None = None
    older_than_step: Annotated[int, Field(ge=1, le=2**31 - 1)] | None = None

    @model_validator(mode="after")
    def _check_selection(self) -> Self:
        if (self.ids is None) == (self.older_than_step is None):
            raise ValueError("send either ids or older_than_step")
        return self


class CheckpointDeleted(BaseModel):
    id: str
    object: Literal["fine_tuning.job.checkpoint"] = "fine_tuning.job.checkpoint"
    deleted: Literal[True] = True

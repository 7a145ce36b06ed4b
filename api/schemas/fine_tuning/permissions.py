"""Who else may use a checkpoint, on the wire."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from api.schemas.fine_tuning.jobs import Reference
from storage.tables import CheckpointPermission


class PermissionsIn(BaseModel):
    """Projects of the same organization."""

    model_config = ConfigDict(
        extra="forbid", strict=True, json_schema_extra={"examples": [{"project_ids": ["proj_abc"]}]}
    )

    project_ids: Annotated[list[Reference], Field(min_length=1, max_length=100)]


class PermissionOut(BaseModel):
    """One project may use the checkpoint as a model."""

    id: str
    object: Literal["checkpoint.permission"] = "checkpoint.permission"
    created_at: int
    project_id: str


class PermissionDeleted(BaseModel):
    id: str
    object: Literal["checkpoint.permission"] = "checkpoint.permission"
    deleted: Literal[True] = True


def to_permission_out(permission: CheckpointPermission) -> PermissionOut:
    return PermissionOut(id=permission.id, created_at=int(permission.created_at), project_id=permission.project_id)

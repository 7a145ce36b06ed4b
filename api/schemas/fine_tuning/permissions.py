"""Bodies of the checkpoint permission routes."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from api.schemas.base import ResponseModel, StrictModel
from api.schemas.fine_tuning.jobs import Reference
from storage.tables import CheckpointPermission


class PermissionsIn(StrictModel):
    """Projects of the same organization that may use the checkpoint."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"project_ids": ["proj_abc"]}]})

    project_ids: Annotated[list[Reference], Field(min_length=1, max_length=100)]


class PermissionOut(ResponseModel):
    """Permission for one project to use the checkpoint as a model."""

    id: str
    object: Literal["checkpoint.permission"] = "checkpoint.permission"
    created_at: int
    project_id: str


class PermissionDeleted(ResponseModel):
    id: str
    object: Literal["checkpoint.permission"] = "checkpoint.permission"
    deleted: Literal[True] = True


def to_permission_out(permission: CheckpointPermission) -> PermissionOut:
    return PermissionOut(id=permission.id, created_at=int(permission.created_at), project_id=permission.project_id)

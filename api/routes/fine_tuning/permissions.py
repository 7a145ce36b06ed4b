"""Routes that share checkpoints and fine-tuned models with other projects of the organization.

A project with a permission can use, retrieve and download the model by its name, and continue its
training. Only the owner can delete or share it. Names may contain slashes, which clients
percent-encode. Therefore the routes use ``:path``.
"""

from __future__ import annotations

import time
from typing import Annotated, Literal

from fastapi import APIRouter, Query
from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from api.deps import PrincipalDep, ResourcesDep
from api.errors import InvalidRequest, NotFound, error_responses
from api.http.pagination import PERMISSIONS, After, Cursor, Limit, ListOut, to_list
from api.http.strict_json import StrictRoute
from api.schemas.fine_tuning.permissions import PermissionDeleted, PermissionOut, PermissionsIn, to_permission_out
from api.services import model_queries
from jobs import model_lookup
from jobs.resources import Resources
from storage.access.audit import audit
from storage.ids import new_id
from storage.registry import BaseModelEntry
from storage.tables import CheckpointPermission, Job, Project

router = APIRouter(
    prefix="/fine_tuning/checkpoints/{checkpoint:path}/permissions",
    tags=["fine-tuning"],
    route_class=StrictRoute,
    responses=error_responses(404, 413),
)

Order = Literal["ascending", "descending"]
ProjectFilter = Annotated[str | None, Query(max_length=256, description="Only this project's permission.")]

_DIRECTIONS: dict[Order, Literal["asc", "desc"]] = {"ascending": "asc", "descending": "desc"}


@router.post("")
async def create_checkpoint_permissions(
    checkpoint: str, body: PermissionsIn, resources: ResourcesDep, principal: PrincipalDep
) -> ListOut[PermissionOut]:
    """Allow projects of the organization to use a checkpoint or a fine-tuned model.

    Permissions that already exist are returned unchanged.
    """
    job_id = await _get_job_id_or_404(resources, principal.project_id, checkpoint)
    project_ids = list(dict.fromkeys(body.project_ids))
    async with resources.db.write() as session:
        # Serializes grants, and excludes the checkpoint's concurrent deletion.
        await session.execute(select(col(Job.id)).where(col(Job.id) == job_id).with_for_update())
        await _check_projects(session, principal.project_id, project_ids)
        existing = await _load_permissions(session, checkpoint, project_ids)
        created = [
            CheckpointPermission(
                id=new_id("permission"),
                checkpoint_model=checkpoint,
                owner_project_id=principal.project_id,
                project_id=project_id,
                created_at=time.time(),
            )
            for project_id in project_ids
            if project_id not in existing
        ]
        session.add_all(created)
        for permission in created:
            await audit(
                session, principal, "checkpoint.permission.created", permission.id, detail={"checkpoint": checkpoint}
            )
        permissions = existing | {permission.project_id: permission for permission in created}
        data = [to_permission_out(permissions[project_id]) for project_id in project_ids]
    return to_list(data, has_more=False)


@router.get("")
async def list_checkpoint_permissions(
    checkpoint: str,
    resources: ResourcesDep,
    principal: PrincipalDep,
    project_id: ProjectFilter = None,
    limit: Limit = 10,
    order: Order = "descending",
    after: After = None,
) -> ListOut[PermissionOut]:
    """List the permissions for a checkpoint, newest first."""
    await _get_job_id_or_404(resources, principal.project_id, checkpoint)
    conditions = [col(CheckpointPermission.checkpoint_model) == checkpoint]
    filters = [] if project_id is None else [col(CheckpointPermission.project_id) == project_id]
    async with resources.db.read() as session:
        page = await PERMISSIONS.fetch_page(session, conditions, Cursor(after, limit, _DIRECTIONS[order]), filters)
    return to_list([to_permission_out(permission) for permission in page.rows], page.has_more)


@router.delete("/{permission_id}")
async def delete_checkpoint_permission(
    checkpoint: str, permission_id: str, resources: ResourcesDep, principal: PrincipalDep
) -> PermissionDeleted:
    """Revoke a permission. Jobs that already continue from the checkpoint keep running."""
    await _get_job_id_or_404(resources, principal.project_id, checkpoint)
    conditions = [
        col(CheckpointPermission.id) == permission_id,
        col(CheckpointPermission.checkpoint_model) == checkpoint,
    ]
    async with resources.db.write() as session:
        statement = delete(CheckpointPermission).where(*conditions).returning(col(CheckpointPermission.id))
        if (await session.execute(statement)).first() is None:
            raise NotFound("There is no such permission for this checkpoint.", param="permission_id")
        await audit(session, principal, "checkpoint.permission.deleted", permission_id)
    return PermissionDeleted(id=permission_id)


async def _get_job_id_or_404(resources: Resources, project_id: str, name: str) -> str:
    """Return the job that created the checkpoint or model.

    Raises ``NotFound``, also for base models and for models of other projects.
    """
    model = await model_lookup.find_model(resources, project_id, name)
    if model is None or isinstance(model, BaseModelEntry) or model_queries.get_job_path(model).project_id != project_id:
        raise NotFound(
            "There is no such checkpoint or fine-tuned model in this project.",
            param="fine_tuned_model_checkpoint",
            code="model_not_found",
        )
    return model_queries.get_job_path(model).job_id


async def _check_projects(session: AsyncSession, owner_project_id: str, project_ids: list[str]) -> None:
    """Check that the projects exist in the owner's organization. Raises ``InvalidRequest``."""
    organization = select(col(Project.organization_id)).where(col(Project.id) == owner_project_id).scalar_subquery()
    conditions = [col(Project.organization_id) == organization, col(Project.archived_at).is_(None)]
    query = select(col(Project.id)).where(col(Project.id).in_(project_ids), *conditions)
    known = set((await session.execute(query)).scalars())
    for index, project_id in enumerate(project_ids):
        if project_id not in known:
            raise InvalidRequest(
                "There is no such project in this key's organization.",
                param=f"project_ids.{index}",
                code="project_not_found",
            )


async def _load_permissions(
    session: AsyncSession, name: str, project_ids: list[str]
) -> dict[str, CheckpointPermission]:
    query = select(CheckpointPermission).where(
        col(CheckpointPermission.checkpoint_model) == name, col(CheckpointPermission.project_id).in_(project_ids)
    )
    return {permission.project_id: permission for permission in (await session.execute(query)).scalars()}

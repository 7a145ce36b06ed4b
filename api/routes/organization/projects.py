"""Routes that create, change and archive projects.

Projects of other organizations count as missing.
"""

from __future__ import annotations

import time
from typing import Annotated, Any

from fastapi import APIRouter, Query
from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from api.deps import PrincipalDep, ResourcesDep
from api.errors import InvalidRequest, NotFound, error_responses
from api.http.pagination import After, Cursor, Limit, ListOut, Paginator, to_list
from api.http.strict_json import StrictRoute
from api.schemas.organization.admin import LimitsIn, ProjectIn, ProjectOut, ProjectUpdateIn, to_project_out
from storage.access.audit import audit
from storage.access.keys import Principal, create_project
from storage.tables import Project

router = APIRouter(
    prefix="/organization/projects", tags=["organization"], route_class=StrictRoute, responses=error_responses(404, 413)
)

PROJECTS = Paginator(Project, col(Project.id), (col(Project.created_at), col(Project.id)))

IncludeArchived = Annotated[bool, Query(description="Include archived projects.")]


@router.post("")
async def create_organization_project(body: ProjectIn, resources: ResourcesDep, principal: PrincipalDep) -> ProjectOut:
    """Create a project in the key's organization.

    Create its first key with ``POST /v1/organization/projects/{project_id}/api_keys``.
    """
    async with resources.db.write() as session:
        project = await create_project(session, body.name, principal.organization_id)
        for name, value in _dump_set_limits(body.limits).items():
            setattr(project, name, value)
        await audit(session, principal, "project.created", project.id, detail={"name": project.name})
    return to_project_out(project)


@router.get("")
async def list_projects(
    resources: ResourcesDep,
    principal: PrincipalDep,
    include_archived: IncludeArchived = False,
    limit: Limit = 20,
    after: After = None,
) -> ListOut[ProjectOut]:
    """List the organization's projects, newest first."""
    conditions = [col(Project.organization_id) == principal.organization_id]
    filters = [] if include_archived else [col(Project.archived_at).is_(None)]
    async with resources.db.read() as session:
        page = await PROJECTS.fetch_page(session, conditions, Cursor(after, limit), filters)
    return to_list([to_project_out(project) for project in page.rows], page.has_more)


@router.get("/{project_id}")
async def retrieve_project(project_id: str, resources: ResourcesDep, principal: PrincipalDep) -> ProjectOut:
    """Retrieve a project."""
    async with resources.db.read() as session:
        return to_project_out(await get_project_or_404(session, principal, project_id))


@router.post("/{project_id}")
async def update_project(
    project_id: str, body: ProjectUpdateIn, resources: ResourcesDep, principal: PrincipalDep
) -> ProjectOut:
    """Change a project's name or limits."""
    values = _dump_set_limits(body.limits) | ({} if body.name is None else {"name": body.name})
    async with resources.db.write() as session:
        project = await get_project_or_404(session, principal, project_id)
        if values:
            project = await _update_columns(session, project_id, values)
            await audit(session, principal, "project.updated", project_id, detail=values)
    return to_project_out(project)


@router.post("/{project_id}/archive")
async def archive_project(project_id: str, resources: ResourcesDep, principal: PrincipalDep) -> ProjectOut:
    """Archive a project, which permanently disables its keys. Its data stays.

    Archiving a project again changes nothing.
    """
    async with resources.db.write() as session:
        project = await get_project_or_404(session, principal, project_id)
        if project_id == principal.project_id:
            raise InvalidRequest(
                "This key belongs to the project; archive it with a key of another project.",
                param="project_id",
                code="own_project",
            )
        if project.archived_at is None:
            project = await _update_columns(session, project_id, {"archived_at": time.time()})
            await audit(session, principal, "project.archived", project_id)
    return to_project_out(project)


async def get_project_or_404(session: AsyncSession, principal: Principal, project_id: str) -> Project:
    """Return a project of the principal's organization. Raises ``NotFound``."""
    conditions = [col(Project.id) == project_id, col(Project.organization_id) == principal.organization_id]
    project = (await session.execute(select(Project).where(*conditions))).scalar_one_or_none()
    if project is None:
        raise NotFound("There is no such project for this key.", param="project_id")
    return project


async def _update_columns(session: AsyncSession, project_id: str, values: dict[str, Any]) -> Project:
    statement = update(Project).where(col(Project.id) == project_id).values(**values).returning(Project)
    statement = statement.execution_options(synchronize_session=False, populate_existing=True)
    return (await session.execute(statement)).scalar_one()


def _dump_set_limits(limits: LimitsIn | None) -> dict[str, int | None]:
    return limits.model_dump(exclude_unset=True) if limits else {}

"""Routes that create, list and revoke a project's keys. A key's value is shown only once."""

from __future__ import annotations

import time

from fastapi import APIRouter, Response
from sqlalchemy import ColumnElement, select
from sqlmodel import col

from api.deps import PrincipalDep, ResourcesDep
from api.errors import InvalidRequest, NotFound, error_responses
from api.http.pagination import After, Cursor, Limit, ListOut, Paginator, to_list
from api.http.strict_json import StrictRoute
from api.routes.organization.projects import get_project_or_404
from api.schemas.organization.admin import KeyCreated, KeyDeleted, KeyIn, KeyOut, to_key_created, to_key_out
from storage.access.audit import audit
from storage.access.keys import create_key, revoke_key
from storage.tables import ApiKey

router = APIRouter(
    prefix="/organization/projects/{project_id}/api_keys",
    tags=["organization"],
    route_class=StrictRoute,
    responses=error_responses(404, 413),
)

KEYS = Paginator(ApiKey, col(ApiKey.id), (col(ApiKey.created_at), col(ApiKey.id)))


@router.post("")
async def create_project_api_key(
    project_id: str, body: KeyIn, response: Response, resources: ResourcesDep, principal: PrincipalDep
) -> KeyCreated:
    """Create a key. Only this response shows its value."""
    lifetime = body.expires_in_seconds
    response.headers["cache-control"] = "no-store"
    async with resources.db.write() as session:
        project = await get_project_or_404(session, principal, project_id)
        if project.archived_at is not None:
            raise InvalidRequest(
                "The project is archived, so its keys are not in force; choose another project.", param="project_id"
            )
        value, key = await create_key(
            session, project_id, body.name, body.role, None if lifetime is None else time.time() + lifetime
        )
        await audit(session, principal, "api_key.created", key.id, detail={"project": project_id, "role": key.role})
    return to_key_created(key, value)


@router.get("")
async def list_project_api_keys(
    project_id: str, resources: ResourcesDep, principal: PrincipalDep, limit: Limit = 20, after: After = None
) -> ListOut[KeyOut]:
    """List the project's keys, newest first, including expired ones but not revoked ones."""
    async with resources.db.read() as session:
        await get_project_or_404(session, principal, project_id)
        page = await KEYS.fetch_page(session, _filter_unrevoked(project_id), Cursor(after, limit))
    return to_list([to_key_out(key) for key in page.rows], page.has_more)


@router.get("/{key_id}")
async def retrieve_project_api_key(
    project_id: str, key_id: str, resources: ResourcesDep, principal: PrincipalDep
) -> KeyOut:
    """Retrieve a key, without its value."""
    async with resources.db.read() as session:
        await get_project_or_404(session, principal, project_id)
        conditions = [*_filter_unrevoked(project_id), col(ApiKey.id) == key_id]
        key = (await session.execute(select(ApiKey).where(*conditions))).scalar_one_or_none()
    if key is None:
        raise _key_not_found()
    return to_key_out(key)


@router.delete("/{key_id}")
async def delete_project_api_key(
    project_id: str, key_id: str, resources: ResourcesDep, principal: PrincipalDep
) -> KeyDeleted:
    """Revoke a key immediately and permanently."""
    async with resources.db.write() as session:
        await get_project_or_404(session, principal, project_id)
        if await revoke_key(session, key_id, project_id) is None:
            raise _key_not_found()
        await audit(session, principal, "api_key.deleted", key_id, detail={"project": project_id})
    return KeyDeleted(id=key_id)


def _filter_unrevoked(project_id: str) -> list[ColumnElement[bool]]:
    return [col(ApiKey.project_id) == project_id, col(ApiKey.revoked_at).is_(None)]


def _key_not_found() -> NotFound:
    return NotFound("There is no such key in this project.", param="key_id")

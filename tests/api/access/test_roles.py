"""Roles: their permissions, and rejection of inactive keys."""

from __future__ import annotations

import time
from typing import Any

import pytest
from fastapi import APIRouter, FastAPI
from sqlalchemy import update
from sqlmodel import col

from api.app import PUBLIC_PATHS
from api.authorization import DATA, routes_without_permission
from storage.access.keys import create_key, create_project, revoke_key
from storage.access.roles import ROLES, Permission, Role, has_permission, list_roles_with
from storage.tables import Project
from tests.api.stack import Stack
from tests.api.test_errors import assert_error


def create_key_with_role(stack: Stack, role: Role, **values: Any) -> str:
    async def create(session: Any) -> str:
        return (await create_key(session, stack.tenant.project_id, role, role, **values))[0]

    return stack.run_in_session(create)


def test_the_table_of_roles() -> None:
    permissions = {
        role: {permission.name for permission in Permission if has_permission(role, permission)} for role in ROLES
    }
    assert permissions == {
        "admin": {permission.name for permission in Permission},
        "member": {"READ_SELF", "READ_MODELS", "READ", "WRITE", "INFER"},
        "inference": {"READ_SELF", "READ_MODELS", "INFER"},
        "read": {"READ_SELF", "READ_MODELS", "READ"},
    }
    assert not has_permission("unknown", Permission.READ_SELF)
    assert list_roles_with(Permission.ADMINISTER) == ["admin"]


@pytest.mark.parametrize(
    ("role", "method", "path", "status"),
    [
        ("read", "GET", "/v1/files", 200),
        ("read", "GET", "/v1/models", 200),
        ("read", "DELETE", "/v1/files/file-none", 403),
        ("read", "POST", "/v1/fine_tuning/jobs", 403),
        ("read", "POST", "/v1/chat/completions", 403),
        ("read", "GET", "/v1/organization/projects", 403),
        ("inference", "POST", "/v1/chat/completions", 400),
        ("inference", "GET", "/v1/models", 200),
        ("inference", "GET", "/v1/models/none/download", 403),
        ("inference", "GET", "/v1/fine_tuning/jobs", 403),
        ("inference", "DELETE", "/v1/models/none", 403),
        ("member", "POST", "/v1/fine_tuning/jobs", 400),
        ("member", "GET", "/v1/organization/audit_logs", 403),
        ("admin", "GET", "/v1/organization/audit_logs", 200),
    ],
)
def test_roles(stack: Stack, role: Role, method: str, path: str, status: int) -> None:
    with stack.open_http() as http:
        http.headers["authorization"] = f"Bearer {create_key_with_role(stack, role)}"
        body = {"json": {}} if method == "POST" else {}
        response = http.request(method, path, **body)  # type: ignore[arg-type]
        assert http.get("/v1/me").json()["role"] == role
    assert response.status_code == status, response.text


def test_a_refusal_names_the_required_role(stack: Stack) -> None:
    with stack.open_http() as http:
        http.headers["authorization"] = f"Bearer {create_key_with_role(stack, 'read')}"
        error = assert_error(http.post("/v1/fine_tuning/jobs", json={}), 403)
    assert (error["type"], error["code"]) == ("permission_error", "insufficient_permissions")
    assert error["message"] == (
        "This key's role is 'read', which may not change the project's objects; use a key whose role is 'admin' or "
        "'member'."
    )


def test_keys_that_are_not_in_force(stack: Stack) -> None:
    """Revoked, expired, archived and unknown keys get the same bytes."""

    async def create_revoked_key(session: Any) -> str:
        key, row = await create_key(session, stack.tenant.project_id, "revoked")
        assert await revoke_key(session, row.id)
        return key

    async def create_archived_key(session: Any) -> str:
        project = await create_project(session, "old")
        key, _ = await create_key(session, project.id, "archived")
        await session.execute(update(Project).where(col(Project.id) == project.id).values(archived_at=time.time()))
        return key

    keys = [
        stack.run_in_session(create_revoked_key),
        stack.run_in_session(create_archived_key),
        create_key_with_role(stack, "admin", expires_at=time.time() - 1),
    ]
    with stack.open_anonymous_http() as http:
        responses = [
            http.get("/v1/models", headers={"authorization": f"Bearer {key}"}) for key in [*keys, "sk-luthier-none"]
        ]
        active_key = create_key_with_role(stack, "read", expires_at=time.time() + 60)
        assert http.get("/v1/models", headers={"authorization": f"Bearer {active_key}"}).status_code == 200
    assert {response.status_code for response in responses} == {401}
    assert len({response.content for response in responses}) == 1


def test_an_expiring_key_ends_by_itself(stack: Stack) -> None:
    key = create_key_with_role(stack, "read", expires_at=time.time() + 0.5)
    with stack.open_anonymous_http() as http:
        http.headers["authorization"] = f"Bearer {key}"
        assert http.get("/v1/models").status_code == 200
        time.sleep(0.6)
        assert_error(http.get("/v1/models"), 401)


def test_a_router_without_a_role_is_found_at_start_up() -> None:
    router = APIRouter()
    router.add_api_route("/open", lambda: None)
    app = FastAPI()
    v1 = APIRouter(prefix="/v1")
    v1.include_router(router)
    app.include_router(v1)
    assert routes_without_permission(app.routes, PUBLIC_PATHS) == ["/v1/open"]
    protected = FastAPI()
    protected.include_router(router, dependencies=[DATA])
    assert routes_without_permission(protected.routes, PUBLIC_PATHS) == []

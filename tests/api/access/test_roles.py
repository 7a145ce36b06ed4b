"""Keys: what a role may do, and keys that are not in force."""

from __future__ import annotations

import time
from typing import Any

import pytest
from fastapi import APIRouter, FastAPI
from sqlalchemy import update
from sqlmodel import col

from api.app import PUBLIC
from api.authorization import DATA, unchecked
from storage.access.keys import create_key, create_project, revoke_key
from storage.access.roles import ROLES, Permission, Role, allows, roles_with
from storage.tables import Project
from tests.api.stack import Stack
from tests.api.test_errors import error_of


def key_of(stack: Stack, role: Role, **values: Any) -> str:
    async def made(session: Any) -> str:
        return (await create_key(session, stack.ours.project_id, role, role, **values))[0]

    return stack.session(made)


def test_the_table() -> None:
    may = {role: {permission.name for permission in Permission if allows(role, permission)} for role in ROLES}
    assert may == {
        "admin": {permission.name for permission in Permission},
        "member": {"KNOW_ITSELF", "READ_MODELS", "READ", "WRITE", "INFER"},
        "inference": {"KNOW_ITSELF", "READ_MODELS", "INFER"},
        "read": {"KNOW_ITSELF", "READ_MODELS", "READ"},
    }
    assert not allows("somebody", Permission.KNOW_ITSELF)
    assert roles_with(Permission.ADMINISTER) == ["admin"]


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
    with stack.http() as http:
        http.headers["authorization"] = f"Bearer {key_of(stack, role)}"
        body = {"json": {}} if method == "POST" else {}
        answer = http.request(method, path, **body)  # type: ignore[arg-type]
        assert http.get("/v1/me").json()["role"] == role
    assert answer.status_code == status, answer.text


def test_a_refusal_says_which_role_is_needed(stack: Stack) -> None:
    with stack.http() as http:
        http.headers["authorization"] = f"Bearer {key_of(stack, 'read')}"
        error = error_of(http.post("/v1/fine_tuning/jobs", json={}), 403)
    assert (error["type"], error["code"]) == ("permission_error", "insufficient_permissions")
    assert error["message"] == (
        "This key's role is 'read', which may not change the project's things; use a key whose role is 'admin' or "
        "'member'."
    )


def test_keys_that_are_not_in_force(stack: Stack) -> None:
    """Revoked, expired, of an archived project, unknown: the same bytes."""

    async def revoked(session: Any) -> str:
        key, row = await create_key(session, stack.ours.project_id, "revoked")
        assert await revoke_key(session, row.id)
        return key

    async def archived(session: Any) -> str:
        project = await create_project(session, "old")
        key, _ = await create_key(session, project.id, "archived")
        await session.execute(update(Project).where(col(Project.id) == project.id).values(archived_at=time.time()))
        return key

    keys = [stack.session(revoked), stack.session(archived), key_of(stack, "admin", expires_at=time.time() - 1)]
    with stack.bare() as http:
        answers = [
            http.get("/v1/models", headers={"authorization": f"Bearer {key}"}) for key in [*keys, "sk-luthier-none"]
        ]
        living = key_of(stack, "read", expires_at=time.time() + 60)
        assert http.get("/v1/models", headers={"authorization": f"Bearer {living}"}).status_code == 200
    assert {answer.status_code for answer in answers} == {401}
    assert len({answer.content for answer in answers}) == 1


def test_an_expiring_key_ends_by_itself(stack: Stack) -> None:
    key = key_of(stack, "read", expires_at=time.time() + 0.5)
    with stack.bare() as http:
        http.headers["authorization"] = f"Bearer {key}"
        assert http.get("/v1/models").status_code == 200
        time.sleep(0.6)
        error_of(http.get("/v1/models"), 401)


def test_a_router_without_a_role_is_found_at_start_up() -> None:
    router = APIRouter()
    router.add_api_route("/open", lambda: None)
    app = FastAPI()
    v1 = APIRouter(prefix="/v1")
    v1.include_router(router)
    app.include_router(v1)
    assert unchecked(app.routes, PUBLIC) == ["/v1/open"]
    checked = FastAPI()
    checked.include_router(router, dependencies=[DATA])
    assert unchecked(checked.routes, PUBLIC) == []

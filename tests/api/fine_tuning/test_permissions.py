"""Checkpoints shared with other projects: permitted uses, sharing, and rights of the owner."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any
from urllib.parse import quote

import openai
import pytest

from jobs.lifecycle.states import checkpoint_name
from storage.access.keys import DEFAULT_ORGANIZATION
from storage.ids import new_id
from storage.tables import Organization, Project
from tests.api.stack import FAKE_SHA256, Stack
from tests.api.test_errors import assert_error

CHECKPOINTS_PATH = "/v1/fine_tuning/checkpoints"


def _build_path(name: str) -> str:
    """Return the path of a checkpoint's permissions. Like clients, it escapes slashes in the
    name."""
    return f"{CHECKPOINTS_PATH}/{quote(name, safe='')}/permissions"


def _insert_checkpoint(stack: Stack, **values: Any) -> str:
    """Insert a job with a checkpoint and return the checkpoint's name."""
    job = stack.insert_job(state="succeeded", **values)
    stack.insert_checkpoint(job, 5)
    return checkpoint_name(job, 5)


def _insert_project(stack: Stack, organization_id: str | None = None, **values: Any) -> str:
    project = Project(
        id=new_id("project"),
        organization_id=organization_id or "org_default",
        name="another",
        created_at=time.time(),
        **values,
    )
    stack.insert(project)
    return project.id


def _insert_foreign_project(stack: Stack) -> str:
    organization = Organization(id=new_id("organization"), name="others", created_at=time.time())
    stack.insert(organization)
    return _insert_project(stack, organization.id)


def test_the_official_client_shares_lists_and_revokes(stack: Stack) -> None:
    permissions = stack.get_client().fine_tuning.checkpoints.permissions
    name, project_ids = _insert_checkpoint(stack), [_insert_project(stack) for _ in range(3)]
    created = permissions.create(name, project_ids=project_ids)
    assert [(permission.object, permission.project_id) for permission in created] == [
        ("checkpoint.permission", project_id) for project_id in project_ids
    ]
    assert all(permission.id.startswith("cp_") for permission in created)
    newest_first = [permission.project_id for permission in permissions.list(name, limit=2)]
    assert sorted(newest_first) == sorted(project_ids)
    assert [permission.project_id for permission in permissions.list(name, order="ascending")] == newest_first[::-1]
    [permission] = permissions.list(name, project_id=project_ids[1])
    deleted = permissions.delete(permission.id, fine_tuned_model_checkpoint=name)
    assert (deleted.id, deleted.deleted, deleted.object) == (permission.id, True, "checkpoint.permission")
    assert sorted(permission.project_id for permission in permissions.list(name)) == sorted(
        [project_ids[0], project_ids[2]]
    )
    with pytest.raises(openai.NotFoundError):
        permissions.delete(permission.id, fine_tuned_model_checkpoint=name)


def test_sharing_twice_is_sharing_once(stack: Stack) -> None:
    permissions = stack.get_client().fine_tuning.checkpoints.permissions
    name, other = _insert_checkpoint(stack), _insert_project(stack)
    [first] = permissions.create(name, project_ids=[other])
    [again] = permissions.create(name, project_ids=[other, other])
    assert (again.id, again.created_at) == (first.id, first.created_at)


def test_a_shared_model_can_be_used_but_not_deleted_or_reshared(stack: Stack) -> None:
    base = stack.insert_model()
    job = stack.insert_job(state="succeeded", update={"type": "lora", "rank": 4})
    stack.insert_checkpoint(job, 5)
    shared, file = checkpoint_name(job, 5), stack.as_other_tenant().insert_file()
    other_client = stack.as_other_tenant().get_client()
    chat = {"messages": [{"role": "user", "content": "Hi"}]}
    for name in (shared, base.id):
        with pytest.raises(openai.NotFoundError):
            other_client.models.retrieve(name)
        stack.get_client().fine_tuning.checkpoints.permissions.create(name, project_ids=[stack.other_tenant.project_id])
        assert other_client.models.retrieve(name).owned_by == stack.tenant.project_id
        assert other_client.chat.completions.create(model=name, **chat).model == name  # type: ignore[call-overload]
        new_job = other_client.fine_tuning.jobs.create(model=name, training_file=file.id)
        assert (new_job.model, new_job.organization_id) == (name, DEFAULT_ORGANIZATION)
        with pytest.raises(openai.PermissionDeniedError):
            other_client.models.delete(name)
        with pytest.raises(openai.NotFoundError):
            other_client.fine_tuning.checkpoints.permissions.create(name, project_ids=[stack.other_tenant.project_id])
        with pytest.raises(openai.NotFoundError):
            list(other_client.fine_tuning.checkpoints.permissions.list(name))
    with stack.as_other_tenant().open_http() as http:
        assert_error(http.get(f"/v1/fine_tuning/jobs/{job.id}/checkpoints"), 404)
    [permission] = stack.get_client().fine_tuning.checkpoints.permissions.list(shared)
    stack.get_client().fine_tuning.checkpoints.permissions.delete(permission.id, fine_tuned_model_checkpoint=shared)
    with pytest.raises(openai.NotFoundError):
        other_client.models.retrieve(shared)


def test_a_shared_model_is_listed_until_it_is_revoked(stack: Stack) -> None:
    """A shared model appears with its owner in the list, by its name and for inference."""
    model, checkpoint, unshared = stack.insert_model(), _insert_checkpoint(stack), stack.insert_model()
    other_stack = replace(stack.as_other_tenant(), tenant=stack.with_new_project().tenant)
    client, permissions = other_stack.get_client(), stack.get_client().fine_tuning.checkpoints.permissions
    before = [listed_model.id for listed_model in client.models.list()]
    for name in (checkpoint, model.id):
        permissions.create(name, project_ids=[other_stack.tenant.project_id])
    own = other_stack.insert_model()
    listed = {listed_model.id: listed_model.owned_by for listed_model in client.models.list()}
    assert list(listed) == [*before, own.id, checkpoint, model.id]
    assert {listed[model.id], listed[checkpoint]} == {stack.tenant.project_id}
    assert [listed_model.id for listed_model in stack.get_client().models.list()].count(model.id) == 1
    assert unshared.id not in listed
    chat = {"messages": [{"role": "user", "content": "Hi"}]}
    for name in (checkpoint, model.id):
        [permission] = permissions.list(name)
        permissions.delete(permission.id, fine_tuned_model_checkpoint=name)
        assert name not in [listed_model.id for listed_model in client.models.list()]
        with pytest.raises(openai.NotFoundError):
            client.models.retrieve(name)
        with pytest.raises(openai.NotFoundError):
            client.chat.completions.create(model=name, **chat)  # type: ignore[call-overload]
    assert [listed_model.id for listed_model in client.models.list()] == [*before, own.id]


def test_a_deleted_shared_model_leaves_the_list(stack: Stack) -> None:
    job, model, other_stack = stack.insert_job(state="succeeded"), stack.insert_model(), stack.with_new_project()
    row, name = stack.insert_checkpoint(job, 5), checkpoint_name(job, 5)
    before = [listed_model.id for listed_model in other_stack.get_client().models.list()]
    for shared in (name, model.id):
        stack.get_client().fine_tuning.checkpoints.permissions.create(
            shared, project_ids=[other_stack.tenant.project_id]
        )
    assert [listed_model.id for listed_model in other_stack.get_client().models.list()] == [*before, name, model.id]
    with stack.open_http() as http:
        assert http.delete(f"/v1/fine_tuning/jobs/{job.id}/checkpoints/{row.id}").status_code == 200
    assert [listed_model.id for listed_model in other_stack.get_client().models.list()] == [*before, model.id]
    stack.get_client().models.delete(model.id)
    assert [listed_model.id for listed_model in other_stack.get_client().models.list()] == before


def test_downloading_a_shared_model(stack: Stack) -> None:
    name = _insert_checkpoint(stack)
    path = f"/v1/models/{quote(name, safe='')}/download"
    with stack.as_other_tenant().open_http() as http:
        assert_error(http.get(path), 404)
        stack.get_client().fine_tuning.checkpoints.permissions.create(name, project_ids=[stack.other_tenant.project_id])
        response = http.get(path)
        assert response.status_code == 200
        assert response.content


def test_only_projects_of_the_same_organization(stack: Stack) -> None:
    name, valid_project = _insert_checkpoint(stack), _insert_project(stack)
    with stack.open_http() as http:
        responses = [
            http.post(_build_path(name), json={"project_ids": [valid_project, invalid_project]})
            for invalid_project in (
                "proj_none",
                _insert_foreign_project(stack),
                _insert_project(stack, archived_at=time.time()),
            )
        ]
        errors = [assert_error(response, 400) for response in responses]
        assert [error["param"] for error in errors] == ["project_ids.1"] * 3
        assert len({error["message"] for error in errors}) == 1
        assert http.get(_build_path(name)).json()["data"] == []


@pytest.mark.parametrize("name", ["starter", "nothing", "ft:starter:luthier::xxxxxxxx:ckpt-step-5", "a/b"])
def test_only_tuned_models_can_be_shared(stack: Stack, name: str) -> None:
    with stack.open_http() as http:
        for response in (
            http.post(_build_path(name), json={"project_ids": [stack.other_tenant.project_id]}),
            http.get(_build_path(name)),
            http.delete(f"{_build_path(name)}/cp_x"),
        ):
            assert assert_error(response, 404)["param"] == "fine_tuned_model_checkpoint"


@pytest.mark.parametrize(
    "body",
    [{}, {"project_ids": []}, {"project_ids": [1]}, {"project_ids": ["x"], "more": 1}, {"project_ids": ["x"] * 101}],
)
def test_invalid_bodies(stack: Stack, body: dict[str, Any]) -> None:
    with stack.open_http() as http:
        assert_error(http.post(_build_path(_insert_checkpoint(stack)), json=body), 400)


def test_invalid_queries(stack: Stack) -> None:
    name = _insert_checkpoint(stack)
    with stack.open_http() as http:
        for query in ({"order": "asc"}, {"limit": "x"}, {"after": "cp_x"}):
            assert_error(http.get(_build_path(name), params=query), 400)


def test_permissions_are_deleted_with_the_model(stack: Stack) -> None:
    model = stack.insert_model()
    stack.blobs.put_bytes(f"{model.prefix}/manifest.json", b"{}")
    assert model.manifest_sha256 == FAKE_SHA256
    permissions = stack.get_client().fine_tuning.checkpoints.permissions
    permissions.create(model.id, project_ids=[stack.other_tenant.project_id])
    stack.get_client().models.delete(model.id)
    with pytest.raises(openai.NotFoundError):
        stack.as_other_tenant().get_client().models.retrieve(model.id)

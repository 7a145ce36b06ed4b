"""Checkpoints shared with other projects: who may use them, who may share them, and what stays the owner's."""

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
from tests.api.stack import SHA, Stack
from tests.api.test_errors import error_of

CHECKPOINTS = "/v1/fine_tuning/checkpoints"


def _path(name: str) -> str:
    return f"{CHECKPOINTS}/{quote(name, safe='')}/permissions"


def _checkpoint(stack: Stack, **values: Any) -> str:
    """A shared checkpoint's name; slashes in names are escaped by clients."""
    job = stack.job(state="succeeded", **values)
    stack.checkpoint(job, 5)
    return checkpoint_name(job, 5)


def _project(stack: Stack, organization_id: str | None = None, **values: Any) -> str:
    project = Project(
        id=new_id("project"),
        organization_id=organization_id or "org_default",
        name="another",
        created_at=time.time(),
        **values,
    )
    stack.insert(project)
    return project.id


def _foreign_project(stack: Stack) -> str:
    organization = Organization(id=new_id("organization"), name="others", created_at=time.time())
    stack.insert(organization)
    return _project(stack, organization.id)


def test_the_official_client_shares_lists_and_takes_back(stack: Stack) -> None:
    permissions = stack.client().fine_tuning.checkpoints.permissions
    name, others = _checkpoint(stack), [_project(stack) for _ in range(3)]
    made = permissions.create(name, project_ids=others)
    assert [(one.object, one.project_id) for one in made] == [("checkpoint.permission", other) for other in others]
    assert all(one.id.startswith("cp_") for one in made)
    newest_first = [one.project_id for one in permissions.list(name, limit=2)]
    assert sorted(newest_first) == sorted(others)
    assert [one.project_id for one in permissions.list(name, order="ascending")] == newest_first[::-1]
    [one] = permissions.list(name, project_id=others[1])
    gone = permissions.delete(one.id, fine_tuned_model_checkpoint=name)
    assert (gone.id, gone.deleted, gone.object) == (one.id, True, "checkpoint.permission")
    assert sorted(one.project_id for one in permissions.list(name)) == sorted([others[0], others[2]])
    with pytest.raises(openai.NotFoundError):
        permissions.delete(one.id, fine_tuned_model_checkpoint=name)


def test_sharing_twice_is_sharing_once(stack: Stack) -> None:
    permissions = stack.client().fine_tuning.checkpoints.permissions
    name, other = _checkpoint(stack), _project(stack)
    [first] = permissions.create(name, project_ids=[other])
    [again] = permissions.create(name, project_ids=[other, other])
    assert (again.id, again.created_at) == (first.id, first.created_at)


def test_what_is_shared_can_be_used_but_not_deleted_or_shared_on(stack: Stack) -> None:
    base = stack.model()
    job = stack.job(state="succeeded", update={"type": "lora", "rank": 4})
    stack.checkpoint(job, 5)
    shared, file = checkpoint_name(job, 5), stack.as_theirs().file()
    theirs = stack.as_theirs().client()
    chat = {"messages": [{"role": "user", "content": "Hi"}]}
    for name in (shared, base.id):
        with pytest.raises(openai.NotFoundError):
            theirs.models.retrieve(name)
        stack.client().fine_tuning.checkpoints.permissions.create(name, project_ids=[stack.theirs.project_id])
        assert theirs.models.retrieve(name).owned_by == stack.ours.project_id
        assert theirs.chat.completions.create(model=name, **chat).model == name  # type: ignore[call-overload]
        made = theirs.fine_tuning.jobs.create(model=name, training_file=file.id)
        assert (made.model, made.organization_id) == (name, DEFAULT_ORGANIZATION)
        with pytest.raises(openai.PermissionDeniedError):
            theirs.models.delete(name)
        with pytest.raises(openai.NotFoundError):
            theirs.fine_tuning.checkpoints.permissions.create(name, project_ids=[stack.theirs.project_id])
        with pytest.raises(openai.NotFoundError):
            list(theirs.fine_tuning.checkpoints.permissions.list(name))
    with stack.as_theirs().http() as http:
        error_of(http.get(f"/v1/fine_tuning/jobs/{job.id}/checkpoints"), 404)
    [permission] = stack.client().fine_tuning.checkpoints.permissions.list(shared)
    stack.client().fine_tuning.checkpoints.permissions.delete(permission.id, fine_tuned_model_checkpoint=shared)
    with pytest.raises(openai.NotFoundError):
        theirs.models.retrieve(shared)


def test_what_is_shared_is_listed_until_it_is_taken_back(stack: Stack) -> None:
    """With its owner; in the list, by its name and as an answering model alike."""
    model, checkpoint, unshared = stack.model(), _checkpoint(stack), stack.model()
    theirs = replace(stack.as_theirs(), ours=stack.fresh().ours)
    client, permissions = theirs.client(), stack.client().fine_tuning.checkpoints.permissions
    before = [one.id for one in client.models.list()]
    for name in (checkpoint, model.id):
        permissions.create(name, project_ids=[theirs.ours.project_id])
    own = theirs.model()
    listed = {one.id: one.owned_by for one in client.models.list()}
    assert list(listed) == [*before, own.id, checkpoint, model.id]
    assert {listed[model.id], listed[checkpoint]} == {stack.ours.project_id}
    assert [one.id for one in stack.client().models.list()].count(model.id) == 1
    assert unshared.id not in listed
    chat = {"messages": [{"role": "user", "content": "Hi"}]}
    for name in (checkpoint, model.id):
        [permission] = permissions.list(name)
        permissions.delete(permission.id, fine_tuned_model_checkpoint=name)
        assert name not in [one.id for one in client.models.list()]
        with pytest.raises(openai.NotFoundError):
            client.models.retrieve(name)
        with pytest.raises(openai.NotFoundError):
            client.chat.completions.create(model=name, **chat)  # type: ignore[call-overload]
    assert [one.id for one in client.models.list()] == [*before, own.id]


def test_what_its_owner_deletes_leaves_the_list(stack: Stack) -> None:
    job, model, theirs = stack.job(state="succeeded"), stack.model(), stack.fresh()
    row, name = stack.checkpoint(job, 5), checkpoint_name(job, 5)
    before = [one.id for one in theirs.client().models.list()]
    for shared in (name, model.id):
        stack.client().fine_tuning.checkpoints.permissions.create(shared, project_ids=[theirs.ours.project_id])
    assert [one.id for one in theirs.client().models.list()] == [*before, name, model.id]
    with stack.http() as http:
        assert http.delete(f"/v1/fine_tuning/jobs/{job.id}/checkpoints/{row.id}").status_code == 200
    assert [one.id for one in theirs.client().models.list()] == [*before, model.id]
    stack.client().models.delete(model.id)
    assert [one.id for one in theirs.client().models.list()] == before


def test_a_download_of_what_is_shared(stack: Stack) -> None:
    name = _checkpoint(stack)
    path = f"/v1/models/{quote(name, safe='')}/download"
    with stack.as_theirs().http() as http:
        error_of(http.get(path), 404)
        stack.client().fine_tuning.checkpoints.permissions.create(name, project_ids=[stack.theirs.project_id])
        answer = http.get(path)
        assert answer.status_code == 200
        assert answer.content


def test_only_projects_of_the_same_organization(stack: Stack) -> None:
    name, known = _checkpoint(stack), _project(stack)
    with stack.http() as http:
        answers = [
            http.post(_path(name), json={"project_ids": [known, stranger]})
            for stranger in ("proj_nobody", _foreign_project(stack), _project(stack, archived_at=time.time()))
        ]
        errors = [error_of(answer, 400) for answer in answers]
        assert [error["param"] for error in errors] == ["project_ids.1"] * 3
        assert len({error["message"] for error in errors}) == 1
        assert http.get(_path(name)).json()["data"] == []


@pytest.mark.parametrize("name", ["starter", "nothing", "ft:starter:luthier::xxxxxxxx:ckpt-step-5", "a/b"])
def test_only_what_was_trained_here(stack: Stack, name: str) -> None:
    with stack.http() as http:
        for answer in (
            http.post(_path(name), json={"project_ids": [stack.theirs.project_id]}),
            http.get(_path(name)),
            http.delete(f"{_path(name)}/cp_x"),
        ):
            assert error_of(answer, 404)["param"] == "fine_tuned_model_checkpoint"


@pytest.mark.parametrize(
    "body",
    [{}, {"project_ids": []}, {"project_ids": [1]}, {"project_ids": ["x"], "more": 1}, {"project_ids": ["x"] * 101}],
)
def test_bad_bodies(stack: Stack, body: dict[str, Any]) -> None:
    with stack.http() as http:
        error_of(http.post(_path(_checkpoint(stack)), json=body), 400)


def test_bad_queries(stack: Stack) -> None:
    name = _checkpoint(stack)
    with stack.http() as http:
        for query in ({"order": "asc"}, {"limit": "x"}, {"after": "cp_x"}):
            error_of(http.get(_path(name), params=query), 400)


def test_permissions_go_with_the_model(stack: Stack) -> None:
    model = stack.model()
    stack.blobs.put_bytes(f"{model.prefix}/manifest.json", b"{}")
    assert model.manifest_sha256 == SHA
    permissions = stack.client().fine_tuning.checkpoints.permissions
    permissions.create(model.id, project_ids=[stack.theirs.project_id])
    stack.client().models.delete(model.id)
    with pytest.raises(openai.NotFoundError):
        stack.as_theirs().client().models.retrieve(model.id)

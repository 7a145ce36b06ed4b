"""Administration of an organization: projects, keys, audit log and usage.

These tests use the official client if it has the route."""

from __future__ import annotations

import time
from typing import Any

import httpx
import openai
import pytest
from openai import OpenAI
from sqlalchemy import select
from sqlmodel import col

from storage.access.keys import create_key, create_project
from storage.access.usage import to_utc_day
from storage.ids import new_id
from storage.tables import ApiKey, AuditEntry, Organization, Usage
from tests.api.stack import Stack, Tenant
from tests.api.test_errors import assert_error

PROJECTS_PATH = "/v1/organization/projects"
CHAT_BODY = {"model": "starter", "messages": [{"role": "user", "content": "Hi"}]}


def with_new_organization(stack: Stack) -> Stack:
    """Return the same server for the admin of another organization."""

    async def create_admin(session: Any) -> Tenant:
        organization = Organization(id=new_id("organization"), name="another", created_at=time.time())
        session.add(organization)
        await session.flush()
        project = await create_project(session, "first", organization.id)
        return Tenant(project.id, (await create_key(session, project.id, "admin"))[0])

    fresh = stack.with_new_project()
    return type(stack)(**{**vars(fresh), "tenant": stack.run_in_session(create_admin)})


@pytest.fixture(scope="module")
def admin_stack(stack: Stack) -> Stack:
    return with_new_organization(stack)


def get_admin_client(stack: Stack) -> OpenAI:
    return stack.get_client().with_options(admin_api_key=stack.tenant.key)


def test_projects(admin_stack: Stack) -> None:
    projects = get_admin_client(admin_stack).admin.organization.projects
    project = projects.create(name="support")
    assert project.object == "organization.project"
    assert (project.name, project.status, project.archived_at) == ("support", "active", None)
    assert projects.retrieve(project.id) == project
    assert projects.update(project.id, name="helpdesk").name == "helpdesk"
    assert project.id in [listed.id for listed in projects.list()]
    archived = projects.archive(project.id)
    assert archived.status == "archived"
    assert archived.archived_at is not None
    assert projects.archive(project.id) == archived
    assert project.id not in [listed.id for listed in projects.list()]
    assert project.id in [listed.id for listed in projects.list(include_archived=True)]


@pytest.mark.parametrize("field", ["external_key_id", "geography", "residency"])
def test_unsupported_project_fields(admin_stack: Stack, field: str) -> None:
    with admin_stack.open_http() as http:
        error = assert_error(http.post(PROJECTS_PATH, json={"name": "p", field: "EU"}), 400)
        assert (error["param"], error["code"]) == (field, "unsupported_parameter")
        assert http.post(PROJECTS_PATH, json={"name": "p", field: None}).status_code == 200


def test_projects_page(admin_stack: Stack) -> None:
    projects = get_admin_client(admin_stack).admin.organization.projects
    ids = [projects.create(name=str(number)).id for number in range(5)]
    listed_ids = [project.id for project in projects.list(limit=2)]
    assert listed_ids[:5] == ids[::-1]
    assert len(listed_ids) == len(set(listed_ids))


def test_a_project_archived_between_two_pages(admin_stack: Stack) -> None:
    projects = get_admin_client(admin_stack).admin.organization.projects
    older, newer = projects.create(name="older"), projects.create(name="newer")
    page = projects.list(limit=1)
    assert [project.id for project in page.data] == [newer.id]
    projects.archive(newer.id)
    assert page.get_next_page().data[0].id == older.id


def test_limits_of_a_project(admin_stack: Stack) -> None:
    with admin_stack.open_http() as http:
        project = http.post(
            PROJECTS_PATH, json={"name": "p", "limits": {"max_bytes": 10, "max_running_jobs": 2}}
        ).json()
        unlimited = {"requests_per_minute": None, "tokens_per_minute": None, "max_queued_requests": None}
        assert project["limits"] == {**unlimited, "max_bytes": 10, "max_running_jobs": 2}
        changed = http.post(
            f"{PROJECTS_PATH}/{project['id']}", json={"limits": {"max_bytes": None, "tokens_per_minute": 9}}
        )
        assert changed.json()["limits"] == {
            "requests_per_minute": None,
            "tokens_per_minute": 9,
            "max_running_jobs": 2,
            "max_queued_requests": None,
            "max_bytes": None,
        }
        assert changed.json()["name"] == "p"
        limits: list[dict[str, int]] = [{"max_bytes": 0}, {"max_jobs": 1}]
        for invalid_body in (*({"limits": values} for values in limits), {"name": ""}, {"name": "a\nb"}, {"x": 1}):
            assert_error(http.post(f"{PROJECTS_PATH}/{project['id']}", json=invalid_body), 400)


def test_the_own_project_is_not_archived(admin_stack: Stack) -> None:
    with admin_stack.open_http() as http:
        response = http.post(f"{PROJECTS_PATH}/{admin_stack.tenant.project_id}/archive")
        assert assert_error(response, 400)["code"] == "own_project"
        assert http.get("/v1/me").status_code == 200


def test_a_key_s_life(admin_stack: Stack) -> None:
    project = get_admin_client(admin_stack).admin.organization.projects.create(name="keys")
    path = f"{PROJECTS_PATH}/{project.id}/api_keys"
    with admin_stack.open_http() as http, admin_stack.open_anonymous_http() as key_http:
        created = http.post(path, json={"name": "site", "role": "inference", "expires_in_seconds": 3600})
        key = created.json()
        key_http.headers["authorization"] = f"Bearer {key['value']}"
        me = key_http.get("/v1/me").json()
        assert (me["project"], me["role"]) == ({"id": project.id, "name": "keys"}, "inference")
        listed = http.get(path)
        assert key["value"] not in listed.text
        assert {**listed.json()["data"][0], "value": key["value"]} == key
        assert key["redacted_value"] == f"{key['value'][:15]}…"
        assert key["expires_at"] == pytest.approx(time.time() + 3600, abs=30)
        api_keys = get_admin_client(admin_stack).admin.organization.projects.api_keys
        assert api_keys.retrieve(key["id"], project_id=project.id).name == "site"
        assert [listed_key.id for listed_key in api_keys.list(project.id)] == [key["id"]]
        assert api_keys.delete(key["id"], project_id=project.id).deleted
        assert_error(key_http.get("/v1/me"), 401)
        with pytest.raises(openai.NotFoundError):
            api_keys.delete(key["id"], project_id=project.id)
        assert http.get(path).json()["data"] == []

    async def get_row(session: Any) -> ApiKey:
        return (await session.execute(select(ApiKey).where(col(ApiKey.id) == key["id"]))).scalar_one()

    assert key["value"] not in str(vars(admin_stack.run_in_session(get_row)))


def test_archiving_ends_keys(admin_stack: Stack) -> None:
    with admin_stack.open_http() as http, admin_stack.open_anonymous_http() as key_http:
        project = http.post(PROJECTS_PATH, json={"name": "old"}).json()["id"]
        key = http.post(f"{PROJECTS_PATH}/{project}/api_keys", json={"name": "k"}).json()["value"]
        key_http.headers["authorization"] = f"Bearer {key}"
        assert key_http.get("/v1/models").status_code == 200
        http.post(f"{PROJECTS_PATH}/{project}/archive")
        assert_error(key_http.get("/v1/models"), 401)
        assert_error(http.post(f"{PROJECTS_PATH}/{project}/api_keys", json={"name": "k"}), 400)


@pytest.mark.parametrize("body", [{}, {"name": "k", "role": "root"}, {"name": "k", "expires_in_seconds": 1}])
def test_invalid_keys(admin_stack: Stack, body: dict[str, Any]) -> None:
    with admin_stack.open_http() as http:
        assert_error(http.post(f"{PROJECTS_PATH}/{admin_stack.tenant.project_id}/api_keys", json=body), 400)


def _list_audit_logs(http: httpx.Client, **params: Any) -> list[dict[str, Any]]:
    response = http.get("/v1/organization/audit_logs", params=params)
    assert response.status_code == 200, response.text
    return list(response.json()["data"])


def test_every_change_is_in_the_log(stack: Stack) -> None:
    own_stack = with_new_organization(stack)
    with own_stack.open_http() as http:
        created = http.post(PROJECTS_PATH, json={"name": "audited"})
        project = created.json()["id"]
        http.post(f"{PROJECTS_PATH}/{project}", json={"limits": {"max_bytes": 5}})
        key = http.post(f"{PROJECTS_PATH}/{project}/api_keys", json={"name": "k"}).json()
        http.delete(f"{PROJECTS_PATH}/{project}/api_keys/{key['id']}")
        http.post(f"{PROJECTS_PATH}/{project}/archive")
        # Requests that change nothing leave no entry.
        http.post(f"{PROJECTS_PATH}/{project}/archive")
        http.post(f"{PROJECTS_PATH}/{project}", json={})
        http.post(PROJECTS_PATH, json={"name": ""})
        log = _list_audit_logs(http)
        assert [(entry["type"], entry["target"]) for entry in log] == [
            ("project.archived", project),
            ("api_key.deleted", key["id"]),
            ("api_key.created", key["id"]),
            ("project.updated", project),
            ("project.created", project),
        ]
        assert log[-1]["request_id"] == created.headers["x-request-id"]
        assert log[-1]["project"] == {"id": own_stack.tenant.project_id, "name": "first"}
        me = http.get("/v1/me").json()["key"]["id"]
        assert {entry["actor"]["api_key"]["id"] for entry in log} == {me}
        assert log[3]["detail"] == {"max_bytes": 5}
        assert key["value"] not in str(log)

        by_type = {"event_types[]": ["project.created", "project.updated"]}
        assert [entry["type"] for entry in _list_audit_logs(http, **by_type)] == ["project.updated", "project.created"]
        assert len(_list_audit_logs(http, **{"resource_ids[]": key["id"]})) == 2
        assert _list_audit_logs(http, **{"actor_ids[]": "key_none"}) == []
        assert len(_list_audit_logs(http, **{"actor_ids[]": me, "project_ids[]": own_stack.tenant.project_id})) == 5
        timestamp = log[0]["effective_at"]
        assert _list_audit_logs(http, **{"effective_at[gt]": timestamp}) == []
        assert log[0] in _list_audit_logs(http, **{"effective_at[gte]": timestamp, "effective_at[lte]": timestamp})
        assert _list_audit_logs(http, **{"effective_at[lt]": log[-1]["effective_at"]}) == []
        paged_ids: list[str] = []
        while page := _list_audit_logs(http, limit=2, **({"after": paged_ids[-1]} if paged_ids else {})):
            paged_ids += [entry["id"] for entry in page]
        assert paged_ids == [entry["id"] for entry in log]
        assert_error(http.get("/v1/organization/audit_logs", params={"effective_at[gt]": "1_0"}), 400)


def test_another_organization_s_log_is_its_own(admin_stack: Stack) -> None:
    other_stack = with_new_organization(admin_stack)
    with admin_stack.open_http() as http, other_stack.open_http() as other_http:
        http.post(PROJECTS_PATH, json={"name": "p"})
        assert _list_audit_logs(other_http) == []
        assert _list_audit_logs(other_http, **{"project_ids[]": admin_stack.tenant.project_id}) == []


def _insert_usage(stack: Stack, *rows: tuple[int, str, str, int]) -> None:
    """Insert the usage of one request for each ``(days ago, kind, model, input tokens)``."""
    now = time.time()
    stack.insert(
        *(
            Usage(
                project_id=stack.tenant.project_id,
                key_id="key_a",
                day=to_utc_day(now - days_ago * 86_400),
                kind=kind,
                model=model,
                requests=1,
                input_tokens=tokens,
                output_tokens=1,
            )
            for days_ago, kind, model, tokens in rows
        )
    )


def test_usage(stack: Stack) -> None:
    own_stack = with_new_organization(stack)
    _insert_usage(own_stack, (2, "chat", "a", 10), (2, "chat", "b", 20), (0, "embedding", "a", 5))
    start = int(time.time()) - 3 * 86_400

    def get_usage(http: httpx.Client, **params: Any) -> Any:
        response = http.get("/v1/organization/usage", params={"start_time": start, **params})
        assert response.status_code == 200, response.text
        return response.json()

    with own_stack.open_http() as http, with_new_organization(stack).open_http() as other_http:
        page = get_usage(http)
        assert [len(bucket["results"]) for bucket in page["data"]] == [0, 1, 0, 1]
        assert page["data"][1]["results"][0]["input_tokens"] == 30
        assert page["data"][1]["results"][0]["num_model_requests"] == 2
        assert page["data"][1]["results"][0]["model"] is None
        assert page["data"][0]["end_time"] == page["data"][1]["start_time"]
        assert (page["has_more"], page["next_page"]) == (False, None)
        grouped = get_usage(http, **{"group_by[]": ["model", "kind"]})["data"][1]["results"]
        assert [(row["model"], row["kind"], row["input_tokens"]) for row in grouped] == [
            ("a", "chat", 10),
            ("b", "chat", 20),
        ]
        filtered = get_usage(http, **{"models[]": "a", "kinds[]": "embedding"})["data"]
        assert [row["input_tokens"] for bucket in filtered for row in bucket["results"]] == [5]
        first = get_usage(http, limit=3)
        assert first["has_more"]
        rest = get_usage(http, limit=3, page=first["next_page"])
        assert first["data"] + rest["data"] == page["data"]
        until = get_usage(http, end_time=page["data"][1]["end_time"])
        assert until["data"] == page["data"][:2]
        assert not any(bucket["results"] for bucket in get_usage(other_http)["data"])
        for invalid_params in ({"start_time": "x"}, {"start_time": 0}, {"start_time": start, "group_by[]": "role"}):
            assert_error(http.get("/v1/organization/usage", params=invalid_params), 400)


def test_inference_usage_is_counted(admin_stack: Stack) -> None:
    """Usage of every inference route is counted for its key within a few seconds."""
    with admin_stack.open_http() as http:
        before = http.get("/v1/me").json()["usage_today"]
        for path, body in {
            "/v1/chat/completions": CHAT_BODY,
            "/v1/completions": {"model": "starter", "prompt": "Hi"},
            "/v1/embeddings": {"model": "encoder", "input": "x"},
            "/v1/predictions": {"model": "encoder", "inputs": ["x"]},
        }.items():
            assert http.post(path, json=body).status_code == 200
        text = http.post("/v1/chat/completions", json={**CHAT_BODY, "stream": True}).text
        assert "usage" not in text
        with_usage = {"stream": True, "stream_options": {"include_usage": True}}
        assert '"usage":{' in http.post("/v1/chat/completions", json={**CHAT_BODY, **with_usage}).text
        with http.stream(
            "POST", "/v1/chat/completions", json={**_build_chat_body("endless"), "stream": True}
        ) as response:
            next(response.iter_lines())
        deadline = time.monotonic() + 5
        while (usage := http.get("/v1/me").json()["usage_today"])["requests"] < before["requests"] + 7:
            assert time.monotonic() < deadline, usage
            time.sleep(0.1)
        params = {"start_time": int(time.time()), "group_by[]": ["kind", "model"]}
        results = http.get("/v1/organization/usage", params=params).json()["data"][0]["results"]
    kinds = {(row["kind"], row["model"]): row for row in results}
    assert set(kinds) == {
        ("chat", "starter"),
        ("completion", "starter"),
        ("embedding", "encoder"),
        ("prediction", "encoder"),
    }
    assert kinds["chat", "starter"]["num_model_requests"] == 4
    # One complete response and two finished streams have 3 input and 2 output tokens each. The
    # abandoned stream counts the tokens it had sent.
    assert kinds["chat", "starter"]["input_tokens"] == 9
    assert kinds["chat", "starter"]["output_tokens"] > 6
    assert (kinds["completion", "starter"]["input_tokens"], kinds["completion", "starter"]["output_tokens"]) == (3, 2)


def _build_chat_body(content: str) -> dict[str, Any]:
    return {"model": "starter", "messages": [{"role": "user", "content": content}]}


def test_me(admin_stack: Stack) -> None:
    fresh = with_new_organization(admin_stack)
    fresh.insert_job(state="running")
    fresh.insert_file()
    with fresh.open_http() as http:
        me = http.get("/v1/me").json()
    assert me["object"] == "organization.me"
    assert me["role"] == me["key"]["role"] == "admin"
    assert me["organization"]["name"] == "another"
    assert (me["running_jobs"], me["stored_bytes"]) == (1, 2)
    assert me["usage_today"] == {"requests": 0, "input_tokens": 0, "output_tokens": 0}
    assert set(me["limits"].values()) == {None}


def test_the_log_entry_is_written_with_its_change(admin_stack: Stack) -> None:
    """Both are in one transaction, so a rolled-back change leaves no entry."""

    async def count_entries(session: Any) -> int:
        condition = col(AuditEntry.project_id) == admin_stack.tenant.project_id
        return len((await session.execute(select(AuditEntry).where(condition))).all())

    before = admin_stack.run_in_session(count_entries)
    with admin_stack.open_http() as http:
        assert_error(http.delete(f"{PROJECTS_PATH}/{admin_stack.tenant.project_id}/api_keys/key_none"), 404)
    assert admin_stack.run_in_session(count_entries) == before

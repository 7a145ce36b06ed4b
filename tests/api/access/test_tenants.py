"""The tenant matrix, made from the routing table: every route × method × id it takes × whoever asks.

Another project's id, and what is no id at all, are answered like an id that was never made; a key that is not in force
like none; a key in force as the table of roles says. A new route needs one line in :mod:`tests.api.access.tenancy`.
"""

from __future__ import annotations

import re
import time
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from fastapi.routing import iter_route_contexts

from api.app import PUBLIC_PATHS, create_app
from storage.access.keys import create_key, revoke_key
from storage.access.roles import ROLES, Role, has_permission
from tests.api.access.tenancy import ROUTE_RULES, RouteRule, get_unknown_id
from tests.api.access.tenant_ids import RouteIds
from tests.api.access.test_admin import with_new_organization
from tests.api.access.test_roles import create_key_with_role
from tests.api.stack import Stack
from tests.api.test_errors import assert_error

# Differ from answer to answer and say nothing.
_VOLATILE_HEADERS = frozenset({"x-request-id", "openai-processing-ms", "date"})

Route = tuple[str, str, str]


def list_routes(stack: Stack) -> list[Route]:
    """``(method, path, name)`` of every route that needs a key."""
    found = [
        (method, str(route.path_format), str(route.name))
        for route in iter_route_contexts(create_app(stack.settings).routes)
        for method in sorted(route.methods or ())
        if str(route.path_format) not in PUBLIC_PATHS and method != "HEAD"
    ]
    assert len(found) > 30
    return found


@pytest.fixture(scope="module")
def route_ids(stack: Stack) -> dict[str, list[RouteIds]]:
    """Of every route, in our own project."""
    return {name: [make(stack) for make in line.id_factories] for name, line in ROUTE_RULES.items()}


def test_every_route_has_its_rule(stack: Stack, route_ids: dict[str, list[RouteIds]]) -> None:
    """And nothing else has; its places are the path's parameters, the cursor, and the fields that look like ids."""
    names = [name for _, _, name in list_routes(stack)]
    assert len(names) == len(set(names))
    assert set(names) == set(ROUTE_RULES)
    ids = re.compile(r"(^|_)(ids?|file|model|checkpoint)$")
    document = create_app(stack.settings).openapi()
    for path, operations in document["paths"].items():
        for operation in operations.values():
            if path in PUBLIC_PATHS:
                continue
            places = {place for world in route_ids[operation["operationId"]] for place in world}
            assert set(re.findall(r"\{(\w+)\}", path)) <= places, path
            if any(parameter["name"] == "after" for parameter in operation.get("parameters", [])):
                assert "query:after" in places, path
            wanted = {f"body:{name}" for name in _get_body_fields(document, operation) if ids.search(name)}
            assert wanted <= places, path


def _get_body_fields(document: dict[str, Any], operation: dict[str, Any]) -> list[str]:
    content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
    reference = content.get("schema", {}).get("$ref", "")
    fields = document["components"]["schemas"].get(reference.rpartition("/")[2], {}).get("properties", {})
    # What takes null only names nothing.
    return [name for name, schema in fields.items() if schema.get("type") != "null"]


def _send_request(http: httpx.Client, route: Route, rule: RouteRule, route_ids: RouteIds) -> httpx.Response:
    method, path, _ = route
    query = {place[6:]: value for place, value in route_ids.items() if place.startswith("query:")}
    ids = {place[5:]: value for place, value in route_ids.items() if place.startswith("body:")}
    body = rule.body | {name: [value] if name in rule.list_fields else value for name, value in ids.items()}
    for place, value in route_ids.items():
        path = path.replace(f"{{{place}}}", quote(value, safe=""))
    return http.request(method, path, params=query, json=body if body else None)


def _get_comparable_parts(response: httpx.Response) -> tuple[int, bytes, list[tuple[str, str]]]:
    headers = [(name, value) for name, value in response.headers.items() if name not in _VOLATILE_HEADERS]
    return response.status_code, response.content, headers


def test_another_projects_id_looks_unknown(stack: Stack, route_ids: dict[str, list[RouteIds]]) -> None:
    foreigners = {"project": stack.as_other_tenant(), "organization": with_new_organization(stack)}
    cells = 0
    with stack.open_http() as http:
        for route in list_routes(stack):
            line = ROUTE_RULES[route[2]]
            theirs = foreigners[line.foreign_scope]
            for mine, make in zip(route_ids[route[2]], line.id_factories, strict=True):
                foreign = make(theirs)
                for place in mine:
                    never = _get_comparable_parts(
                        _send_request(http, route, line, {**mine, place: get_unknown_id(place)})
                    )
                    where = (route, place)
                    assert never[0] in (400, 404), where
                    for value in (foreign[place], "x", "ïd \"'"):
                        assert (
                            _get_comparable_parts(_send_request(http, route, line, {**mine, place: value})) == never
                        ), (*where, value)
                    cells += 1
                # What was tried is there, and is answered otherwise to whom it belongs.
                if mine:
                    with theirs.open_http() as their_http:
                        own = _send_request(their_http, route, line, foreign)
                    assert own.content != never[1], route
                    assert own.status_code < 500, (route, own.text)
    assert cells > 50


def _create_invalid_auth_headers(stack: Stack) -> dict[str, dict[str, str]]:
    async def revoked(session: Any) -> str:
        key, row = await create_key(session, stack.tenant.project_id, "revoked")
        assert await revoke_key(session, row.id)
        return key

    keys = {
        "garbage": "sk-luthier-wrong",
        "revoked": stack.run_in_session(revoked),
        "expired": create_key_with_role(stack, "admin", expires_at=time.time() - 1),
    }
    return {"none": {}} | {name: {"authorization": f"Bearer {key}"} for name, key in keys.items()}


def test_no_route_without_a_key_in_force(stack: Stack) -> None:
    """The same bytes, before anybody looks at path, query or body."""
    bodies: set[bytes] = set()
    keys = _create_invalid_auth_headers(stack)
    with stack.open_anonymous_http() as http:
        for method, path, _ in list_routes(stack):
            for name, headers in keys.items():
                answer = http.request(method, path, headers=headers, content=b"{" if method == "POST" else None)
                assert assert_error(answer, 401)["code"] == "invalid_api_key", (method, path, name)
                assert answer.headers["www-authenticate"] == "Bearer"
                bodies.add(answer.content)
    assert len(bodies) == 1


@pytest.mark.parametrize("role", ROLES)
def test_every_route_requires_its_role(stack: Stack, role: Role) -> None:
    """Whoever may gets an answer of the route, here that there is no such thing; who may not gets a 403."""
    with stack.open_http() as http:
        http.headers["authorization"] = f"Bearer {create_key_with_role(stack, role)}"
        for method, path, name in list_routes(stack):
            line = ROUTE_RULES[name]
            url = re.sub(r"\{(\w+)\}", lambda match: quote(get_unknown_id(match[1]), safe=""), path)
            answer = http.request(method, url, json={} if method == "POST" else None)
            where = (role, method, path)
            if has_permission(role, line.permission):
                assert answer.status_code not in (401, 403), (*where, answer.text)
                assert answer.status_code < 500, (*where, answer.text)
            else:
                assert assert_error(answer, 403)["code"] == "insufficient_permissions", where

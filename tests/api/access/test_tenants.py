"""Tenant matrix, built from the routing table: every route × method × id parameter × API key.

Another project's id and a malformed id get the same response as an id that never existed. An
inactive key gets the same response as no key. An active key gets what the table of roles states.
A new route needs one rule in :mod:`tests.api.access.tenancy`.
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

pytestmark = pytest.mark.integration

# These differ between responses and reveal nothing.
_VOLATILE_HEADERS = frozenset({"x-request-id", "openai-processing-ms", "date"})

Route = tuple[str, str, str]


def list_routes(stack: Stack) -> list[Route]:
    """Return ``(method, path, name)`` of every route that requires a key."""
    routes = [
        (method, str(route.path_format), str(route.name))
        for route in iter_route_contexts(create_app(stack.settings).routes)
        for method in sorted(route.methods or ())
        if str(route.path_format) not in PUBLIC_PATHS and method != "HEAD"
    ]
    assert len(routes) > 30
    return routes


@pytest.fixture(scope="module")
def route_ids(stack: Stack) -> dict[str, list[RouteIds]]:
    """Ids of every route, in the stack's own project."""
    return {name: [create_ids(stack) for create_ids in rule.id_factories] for name, rule in ROUTE_RULES.items()}


def test_every_route_has_its_rule(stack: Stack, route_ids: dict[str, list[RouteIds]]) -> None:
    """Every rule has its route, with ids for path parameters, the cursor and id-like body
    fields."""
    names = [name for _, _, name in list_routes(stack)]
    assert len(names) == len(set(names))
    assert set(names) == set(ROUTE_RULES)
    id_field = re.compile(r"(^|_)(ids?|file|model|checkpoint)$")
    document = create_app(stack.settings).openapi()
    for path, operations in document["paths"].items():
        for operation in operations.values():
            if path in PUBLIC_PATHS:
                continue
            locations = {location for ids in route_ids[operation["operationId"]] for location in ids}
            assert set(re.findall(r"\{(\w+)\}", path)) <= locations, path
            if any(parameter["name"] == "after" for parameter in operation.get("parameters", [])):
                assert "query:after" in locations, path
            expected = {f"body:{name}" for name in _get_body_fields(document, operation) if id_field.search(name)}
            assert expected <= locations, path


def _get_body_fields(document: dict[str, Any], operation: dict[str, Any]) -> list[str]:
    content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
    reference = content.get("schema", {}).get("$ref", "")
    fields = document["components"]["schemas"].get(reference.rpartition("/")[2], {}).get("properties", {})
    # A field that accepts only null takes no id.
    return [name for name, schema in fields.items() if schema.get("type") != "null"]


def _send_request(http: httpx.Client, route: Route, rule: RouteRule, route_ids: RouteIds) -> httpx.Response:
    method, path, _ = route
    query = {location[6:]: value for location, value in route_ids.items() if location.startswith("query:")}
    ids = {location[5:]: value for location, value in route_ids.items() if location.startswith("body:")}
    body = rule.body | {name: [value] if name in rule.list_fields else value for name, value in ids.items()}
    for location, value in route_ids.items():
        path = path.replace(f"{{{location}}}", quote(value, safe=""))
    return http.request(method, path, params=query, json=body if body else None)


def _get_comparable_parts(response: httpx.Response) -> tuple[int, bytes, list[tuple[str, str]]]:
    headers = [(name, value) for name, value in response.headers.items() if name not in _VOLATILE_HEADERS]
    return response.status_code, response.content, headers


def test_another_projects_id_looks_unknown(stack: Stack, route_ids: dict[str, list[RouteIds]]) -> None:
    owners = {"project": stack.as_other_tenant(), "organization": with_new_organization(stack)}
    case_count = 0
    with stack.open_http() as http:
        for route in list_routes(stack):
            rule = ROUTE_RULES[route[2]]
            owner = owners[rule.foreign_scope]
            for own_ids, create_ids in zip(route_ids[route[2]], rule.id_factories, strict=True):
                foreign_ids = create_ids(owner)
                for location in own_ids:
                    expected = _get_comparable_parts(
                        _send_request(http, route, rule, {**own_ids, location: get_unknown_id(location)})
                    )
                    case = (route, location)
                    assert expected[0] in (400, 404), case
                    for value in (foreign_ids[location], "x", "ïd \"'"):
                        assert (
                            _get_comparable_parts(_send_request(http, route, rule, {**own_ids, location: value}))
                            == expected
                        ), (*case, value)
                    case_count += 1
                # The foreign ids exist: their owner gets a different response.
                if own_ids:
                    with owner.open_http() as owner_http:
                        owner_response = _send_request(owner_http, route, rule, foreign_ids)
                    assert owner_response.content != expected[1], route
                    assert owner_response.status_code < 500, (route, owner_response.text)
    assert case_count > 50


def _create_invalid_auth_headers(stack: Stack) -> dict[str, dict[str, str]]:
    async def create_revoked_key(session: Any) -> str:
        key, row = await create_key(session, stack.tenant.project_id, "revoked")
        assert await revoke_key(session, row.id)
        return key

    keys = {
        "garbage": "sk-luthier-wrong",
        "revoked": stack.run_in_session(create_revoked_key),
        "expired": create_key_with_role(stack, "admin", expires_at=time.time() - 1),
    }
    return {"none": {}} | {name: {"authorization": f"Bearer {key}"} for name, key in keys.items()}


def test_no_route_without_a_key_in_force(stack: Stack) -> None:
    """The rejection has the same bytes for all routes and precedes validation of the request."""
    bodies: set[bytes] = set()
    keys = _create_invalid_auth_headers(stack)
    with stack.open_anonymous_http() as http:
        for method, path, _ in list_routes(stack):
            for name, headers in keys.items():
                response = http.request(method, path, headers=headers, content=b"{" if method == "POST" else None)
                assert assert_error(response, 401)["code"] == "invalid_api_key", (method, path, name)
                assert response.headers["www-authenticate"] == "Bearer"
                bodies.add(response.content)
    assert len(bodies) == 1


@pytest.mark.parametrize("role", ROLES)
def test_every_route_requires_its_role(stack: Stack, role: Role) -> None:
    """A permitted role gets the route's own response (here, for an unknown id); others get a
    403."""
    with stack.open_http() as http:
        http.headers["authorization"] = f"Bearer {create_key_with_role(stack, role)}"
        for method, path, name in list_routes(stack):
            rule = ROUTE_RULES[name]
            url = re.sub(r"\{(\w+)\}", lambda match: quote(get_unknown_id(match[1]), safe=""), path)
            response = http.request(method, url, json={} if method == "POST" else None)
            case = (role, method, path)
            if has_permission(role, rule.permission):
                assert response.status_code not in (401, 403), (*case, response.text)
                assert response.status_code < 500, (*case, response.text)
            else:
                assert assert_error(response, 403)["code"] == "insufficient_permissions", case

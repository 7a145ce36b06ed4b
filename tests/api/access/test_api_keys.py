"""Authentication: valid and invalid ways to send a key, and revocation."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from api.app import PUBLIC_PATHS
from storage.access.keys import create_key, revoke_key
from tests.api.stack import Stack
from tests.api.test_errors import assert_error


def test_only_these_paths_are_public(stack: Stack) -> None:
    assert {"/healthz", "/readyz", "/openapi.json", "/docs"} == PUBLIC_PATHS
    with stack.open_anonymous_http() as http:
        for path in PUBLIC_PATHS:
            assert http.get(path).status_code in (200, 503)


def _build_invalid_auth_headers(stack: Stack) -> list[dict[str, str]]:
    async def create_revoked_key(session: Any) -> str:
        key, row = await create_key(session, stack.tenant.project_id, "revoked")
        assert await revoke_key(session, row.id)
        return key

    key = stack.tenant.key
    return [
        {},
        {"authorization": "Bearer sk-luthier-wrong"},
        {"authorization": f"Bearer {stack.run_in_session(create_revoked_key)}"},
        {"authorization": key},
        {"authorization": f"Basic {key}"},
        {"authorization": f"Bearer {key}x"},
        {"authorization": f"Bearer x{key}"},
        {"authorization": "Bearer"},
        {"x-api-key": "wrong"},
        {"x-api-key": ""},
        {"authorization": f"Bearer {key}", "x-api-key": "wrong"},
        {"authorization": "Bearer \xff\xfe"},
    ]


def test_invalid_keys_are_rejected(stack: Stack) -> None:
    """All rejections have the same bytes. The tenant matrix covers every route."""
    bodies: set[bytes] = set()
    with stack.open_anonymous_http() as http:
        for headers in _build_invalid_auth_headers(stack):
            raw = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
            response = http.get("/v1/models", headers=raw)
            assert assert_error(response, 401)["code"] == "invalid_api_key", headers
            assert response.headers["www-authenticate"] == "Bearer"
            bodies.add(response.content)
    assert len(bodies) == 1


def test_two_keys_are_no_key(stack: Stack) -> None:
    headers = [("authorization", f"Bearer {stack.tenant.key}"), ("authorization", f"Bearer {stack.other_tenant.key}")]
    assert_error(httpx.get(f"{stack.url}/v1/models", headers=headers), 401)


def test_a_key_in_the_query_is_no_key(stack: Stack) -> None:
    assert_error(httpx.get(f"{stack.url}/v1/models", params={"api_key": stack.tenant.key}), 401)


@pytest.mark.parametrize("path", ["/v1/none", "/none", "/", "/v1", "/docs/x", "//healthz", "/healthz/", "/metrics"])
def test_paths_without_a_route_need_a_key_too(stack: Stack, path: str) -> None:
    with stack.open_anonymous_http() as http:
        assert_error(http.get(stack.url + path), 401)


@pytest.mark.parametrize("header", ["Authorization: Bearer {}", "authorization: bearer  {}", "X-Api-Key: {}"])
def test_ways_to_send_a_key(stack: Stack, header: str) -> None:
    name, _, value = header.format(stack.tenant.key).partition(": ")
    assert httpx.get(f"{stack.url}/v1/models", headers={name: value}).status_code == 200


def test_a_revoked_key_ends_immediately(stack: Stack) -> None:
    async def create(session: Any) -> tuple[str, str]:
        key, row = await create_key(session, stack.tenant.project_id, "short")
        return key, row.id

    key, key_id = stack.run_in_session(create)
    headers = {"authorization": f"Bearer {key}"}
    assert httpx.get(f"{stack.url}/v1/models", headers=headers).status_code == 200

    async def revoke(session: Any) -> bool:
        return await revoke_key(session, key_id) is not None

    assert stack.run_in_session(revoke)
    assert_error(httpx.get(f"{stack.url}/v1/models", headers=headers), 401)


def test_secrets_stay_out_of_responses(stack: Stack) -> None:
    with stack.open_http() as http:
        texts = [http.get(path).text for path in ("/v1/models", "/v1/files", "/v1/none", "/openapi.json", "/readyz")]
    assert not any(stack.tenant.key in text or str(stack.settings.home) in text for text in texts)

"""Invalid requests: OpenAI's error shape, the right status, and no input repeated in the
response."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from api.app import create_app
from storage.errors import BlobCorrupt
from tests.api.stack import Stack, Tenant, build_settings, prepare_database

JOBS_PATH = "/v1/fine_tuning/jobs"
VALID_FIELDS = '"model": "starter", "training_file": "file-x"'


def assert_error(response: httpx.Response, status: int) -> dict[str, Any]:
    assert response.status_code == status, response.text
    body = response.json()
    assert list(body) == ["error"]
    assert sorted(body["error"]) == ["code", "message", "param", "type"]
    assert body["error"]["message"]
    error: dict[str, Any] = body["error"]
    return error


def _build_hostile_bodies() -> dict[str, bytes]:
    def field(name: str, value: str) -> bytes:
        return f'{{{VALID_FIELDS}, "{name}": {value}}}'.encode()

    rate = '{"learning_rate_multiplier": %s}'
    return {
        "NaN": field("hyperparameters", rate % "NaN"),
        "Infinity": field("hyperparameters", rate % "Infinity"),
        "-Infinity": field("hyperparameters", rate % "-Infinity"),
        "1e400": field("hyperparameters", rate % "1e400"),
        "NaN in a value that is refused": field("suffix", "[NaN]"),
        "list of NaN": field("integrations", "[NaN, NaN]"),
        "lone surrogate": field("suffix", r'"\ud800"'),
        "lone surrogate in an unknown field": field(r"\udfff", "1"),
        "surrogates in the wrong order": field("suffix", r'"\udc00\ud800"'),
        "depth 40": field("integrations", "[" * 40 + "]" * 40),
        "depth 400": field("integrations", "[" * 400 + "]" * 400),
        "depth 900": field("integrations", "[" * 900 + "]" * 900),
        "depth 100000": b"[" * 100_000,
        "objects to depth 900": field("metadata", '{"a":' * 900 + "1" + "}" * 900),
        "duplicate key": field("model", '"other"'),
        "duplicate key, deep": field("metadata", '{"a": "1", "a": "2"}'),
        "4000 digits": field("seed", "1" * 4000),
        "beyond int64": field("seed", str(2**63)),
        "below int64": field("seed", str(-(2**63) - 1)),
        "NUL": field("suffix", r'"a\u0000b"'),
        "raw NUL": b'{"model": "a\0b"}',
        "UTF-16": '{"model": "starter"}'.encode("utf-16"),
        "UTF-8 with BOM": b"\xef\xbb\xbf{}",
        "not UTF-8": b'{"model": "\xff\xfe"}',
        "unknown field": field("learning_rte", "1"),
        "true as a number": field("seed", "true"),
        "text as a number": field("hyperparameters", rate % '"1e-3"'),
        "a list": b"[1, 2]",
        "a number": b"3",
        "null": b"null",
        "nothing": b"",
        "cut short": b'{"model": "star',
        "trailing comma": b'{"model": "starter",}',
        "two values": b"{} {}",
        "single quotes": b"{'model': 'starter'}",
        "control character in a string": b'{"model": "a\nb"}',
        "quotes that never end": b'"' + b'\\"' * 100_000,
    }


@pytest.mark.parametrize("name", _build_hostile_bodies())
@pytest.mark.parametrize("path", [JOBS_PATH, "/v1/predictions", "/v1/chat/completions"])
def test_hostile_json_is_a_400(stack: Stack, path: str, name: str) -> None:
    with stack.open_http() as http:
        response = http.post(path, content=_build_hostile_bodies()[name], headers={"content-type": "application/json"})
    assert assert_error(response, 400)["type"] == "invalid_request_error"


def test_a_body_that_is_not_json_is_reported(stack: Stack) -> None:
    with stack.open_http() as http:
        response = http.post(JOBS_PATH, data={"model": "starter"})
    assert "application/json" in assert_error(response, 400)["message"]


def test_input_is_not_repeated(stack: Stack) -> None:
    canary = "canary-4711"
    bodies: list[Any] = [
        {"model": [canary], "training_file": canary},
        {"model": "starter", "training_file": "f", "update": {"type": canary}},
        {"model": "starter", "training_file": "f", "method": {"type": canary}},
        {"model": "starter", "training_file": "f", "hyperparameters": {"n_epochs": canary}},
        {"model": canary, "training_file": canary},
        canary,
    ]
    with stack.open_http() as http:
        for body in bodies:
            response = http.post(JOBS_PATH, json=body)
            assert_error(response, 400)
            assert canary not in response.text


def test_unknown_route(stack: Stack) -> None:
    with stack.open_http() as http:
        assert assert_error(http.get("/v1/nothing"), 404)["code"] == "unknown_url"
        assert assert_error(http.get("/v1/files/"), 404)["code"] == "unknown_url"


def test_wrong_method_names_the_right_ones(stack: Stack) -> None:
    with stack.open_http() as http:
        response = http.put("/v1/files")
    assert assert_error(response, 405)["code"] == "method_not_allowed"
    assert response.headers["allow"] == "GET, POST"


@pytest.mark.parametrize("url", ["/v1/files/a%00b", "/v1/files?after=%00", "/v1/models/%00"])
def test_nul_in_the_url(stack: Stack, url: str) -> None:
    with stack.open_http() as http:
        assert_error(http.get(url), 400)


@pytest.mark.parametrize("limit", ["1_0", "-1", "1001", "ten", "", "1.0", " 1", "٣", "9" * 30])
def test_limit_out_of_bounds(stack: Stack, limit: str) -> None:
    with stack.open_http() as http:
        error = assert_error(http.get(JOBS_PATH, params={"limit": limit}), 400)
    assert error["param"] == "limit"


def test_a_body_too_large_is_refused_by_its_length(stack: Stack) -> None:
    with stack.open_http() as http:
        response = http.post(JOBS_PATH, content=b" " * (2**20 + 1), headers={"content-type": "application/json"})
    assert assert_error(response, 413)["code"] == "request_too_large"


def test_a_body_too_large_is_refused_while_it_arrives(stack: Stack) -> None:
    # Chunked: no content-length states the size.
    with stack.open_http() as http:
        response = http.post(
            JOBS_PATH, content=(b" " * 2**16 for _ in range(40)), headers={"content-type": "application/json"}
        )
    assert_error(response, 413)


def test_compressed_bodies_are_refused(stack: Stack) -> None:
    with stack.open_http() as http:
        assert_error(http.post(JOBS_PATH, content=b"x", headers={"content-encoding": "gzip"}), 400)


def test_every_response_has_openais_headers(stack: Stack) -> None:
    with stack.open_http() as http:
        responses = [http.get("/v1/models"), http.get("/v1/nothing"), httpx.get(f"{stack.url}/v1/models")]
    ids = [response.headers["x-request-id"] for response in responses]
    assert len(set(ids)) == 3
    for response in responses:
        assert response.headers["openai-version"] == "2020-10-01"
        assert int(response.headers["openai-processing-ms"]) >= 0


class AsgiClient:
    """Client for an in-process application to which tests add failing routes."""

    def __init__(self, app: FastAPI, tenant: Tenant) -> None:
        self.app = app
        self.headers = {"authorization": f"Bearer {tenant.key}"}

    async def get(self, path: str) -> httpx.Response:
        transport = httpx.ASGITransport(self.app)
        async with (
            self.app.router.lifespan_context(self.app),
            httpx.AsyncClient(transport=transport, base_url="http://test", headers=self.headers) as http,
        ):
            return await http.get(path)


@pytest.mark.anyio
@pytest.mark.parametrize("fault", [RuntimeError("secret-canary"), BlobCorrupt("secret-canary"), KeyError("x")])
async def test_an_unexpected_error_is_a_500_without_details(fault: Exception) -> None:
    with tempfile.TemporaryDirectory() as home:
        settings = build_settings(Path(home))
        [tenant, _] = await prepare_database(settings)
        app = create_app(settings)

        async def fail() -> None:
            raise fault

        app.add_api_route("/v1/fail", fail)
        response = await AsgiClient(app, tenant).get("/v1/fail")
    assert assert_error(response, 500)["type"] == "server_error"
    assert "canary" not in response.text
    assert response.headers["x-request-id"]


@pytest.mark.anyio
async def test_no_database_is_a_503_that_invites_a_retry() -> None:
    with tempfile.TemporaryDirectory() as home:
        url = "postgresql+asyncpg://none:none@127.0.0.1:1/none"
        app = create_app(build_settings(Path(home), database_url=url))
        response = await AsgiClient(app, Tenant("proj_none", "sk-luthier-none")).get("/v1/files")
    assert assert_error(response, 503)["type"] == "server_error"
    assert int(response.headers["retry-after"]) > 0

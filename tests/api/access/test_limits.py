"""Limits of a project: requests and tokens per minute over a real Redis, and stored bytes."""

from __future__ import annotations

import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from sqlalchemy import update
from sqlmodel import col

from api.app import create_app
from api.rate_limits import format_duration
from storage.tables import Project, Upload
from tests import services
from tests.api.stack import Stack, get_port, run_server, run_stack
from tests.api.test_errors import assert_error

pytestmark = pytest.mark.integration

CHAT_BODY = {"model": "starter", "messages": [{"role": "user", "content": "Hi"}]}


@dataclass(frozen=True)
class LimitedServer:
    """A server with its own Redis, which a test may kill."""

    stack: Stack
    redis_process: subprocess.Popen[bytes]

    def with_new_project(self, **limits: int) -> Stack:
        """Create a project with these limits."""
        fresh = self.stack.with_new_project()

        async def set_limits(session: Any) -> None:
            condition = col(Project.id) == fresh.tenant.project_id
            await session.execute(update(Project).where(condition).values(**limits))

        if limits:
            fresh.run_in_session(set_limits)
        return fresh


@pytest.fixture(scope="module")
def limited_server() -> Iterator[LimitedServer]:
    with (
        tempfile.TemporaryDirectory(prefix="luthier-") as home,
        services.run_redis(Path(home)) as (url, process),
        run_stack(Path(home), redis_url=url) as running,
    ):
        yield LimitedServer(running, process)


def _get_rate_limit_headers(response: httpx.Response) -> dict[str, str]:
    return {name: value for name, value in response.headers.items() if name.startswith("x-ratelimit-")}


def test_no_headers_without_a_limit(limited_server: LimitedServer) -> None:
    with limited_server.stack.open_http() as http:
        assert _get_rate_limit_headers(http.get("/v1/models")) == {}


def test_requests_a_minute(limited_server: LimitedServer) -> None:
    limited = limited_server.with_new_project(requests_per_minute=3)
    with limited.open_http() as http:
        responses = [http.get("/v1/models") for _ in range(3)]
        rejected = http.get("/v1/models")
    assert [response.headers["x-ratelimit-remaining-requests"] for response in responses] == ["2", "1", "0"]
    for response in [*responses, rejected]:
        assert set(_get_rate_limit_headers(response)) == {
            f"x-ratelimit-{part}-requests" for part in ("limit", "remaining", "reset")
        }
        assert response.headers["x-ratelimit-limit-requests"] == "3"
        assert re.fullmatch(r"\d+ms|[\d.]+s|\d+m\d+s", response.headers["x-ratelimit-reset-requests"])
    error = assert_error(rejected, 429)
    assert (error["code"], error["type"]) == ("rate_limit_exceeded", "requests")
    milliseconds = int(rejected.headers["retry-after-ms"])
    assert 15_000 < milliseconds <= 20_000
    assert int(rejected.headers["retry-after"]) == -(-milliseconds // 1000)
    assert "x-should-retry" not in rejected.headers
    with pytest.raises(openai.RateLimitError):
        limited.get_client().models.list()


def test_a_bucket_fills_steadily(limited_server: LimitedServer) -> None:
    """After the delay that the rejection states, exactly one request passes."""
    with limited_server.with_new_project(requests_per_minute=30).open_http() as http:
        for _ in range(60):
            rejected = http.get("/v1/models")
            if rejected.status_code == 429:
                break
        time.sleep(int(rejected.headers["retry-after-ms"]) / 1000)
        assert [http.get("/v1/models").status_code for _ in range(2)] == [200, 429]


def test_rejections_have_a_complete_response(limited_server: LimitedServer) -> None:
    """The rate limit is checked before the body, and error responses have its headers too."""
    with limited_server.with_new_project(requests_per_minute=1).open_http() as http:
        assert _get_rate_limit_headers(http.get("/v1/none"))
        assert_error(http.post("/v1/fine_tuning/jobs", content=b"{"), 429)


def test_tokens_a_minute(limited_server: LimitedServer) -> None:
    """Tokens are charged after the response, so a bucket can go negative.

    Requests are then rejected until it refills above zero.
    """
    limited = limited_server.with_new_project(tokens_per_minute=12)
    with limited.open_http() as http:
        responses = [http.post("/v1/chat/completions", json=CHAT_BODY) for _ in range(3)]
        rejected = http.post("/v1/chat/completions", json=CHAT_BODY)
    assert [response.status_code for response in responses] == [200] * 3
    assert [response.headers["x-ratelimit-remaining-tokens"] for response in responses] == ["12", "7", "2"]
    error = assert_error(rejected, 429)
    assert (error["code"], error["type"]) == ("rate_limit_exceeded", "tokens")
    assert rejected.headers["x-ratelimit-remaining-tokens"] == "0"
    assert "x-ratelimit-limit-requests" not in rejected.headers


def test_projects_do_not_share_a_bucket(limited_server: LimitedServer) -> None:
    first, second = (limited_server.with_new_project(requests_per_minute=1) for _ in range(2))
    with first.open_http() as first_http, second.open_http() as second_http:
        assert [first_http.get("/v1/me").status_code, first_http.get("/v1/me").status_code] == [200, 429]
        assert second_http.get("/v1/me").status_code == 200


def test_processes_share_a_bucket_and_the_server_has_a_default(limited_server: LimitedServer) -> None:
    settings = limited_server.stack.settings.model_copy(update={"requests_per_minute": 6})
    default, generous = limited_server.with_new_project(), limited_server.with_new_project(requests_per_minute=100)
    with (
        run_server(create_app(settings), host="127.0.0.1", port=0) as first,
        run_server(create_app(settings), host="127.0.0.1", port=0) as second,
    ):
        urls = [f"http://127.0.0.1:{get_port(server)}" for server in (first, second)]
        statuses = []
        for number in range(8):
            with replace(default, url=urls[number % 2]).open_http() as http:
                statuses.append(http.get("/v1/me").status_code)
        with replace(generous, url=urls[0]).open_http() as http:
            me = http.get("/v1/me")
    assert statuses == [200] * 6 + [429] * 2
    assert me.json()["limits"]["requests_per_minute"] == 100


def test_bytes(limited_server: LimitedServer) -> None:
    limited = limited_server.with_new_project(max_bytes=100)
    client = limited.get_client()
    file = client.files.create(file=b"x" * 60, purpose="fine-tune")
    with pytest.raises(openai.BadRequestError) as caught:
        client.files.create(file=b"x" * 41, purpose="fine-tune")
    assert caught.value.code == "quota_exceeded"
    assert "60 of at most 100 bytes; 41 more" in caught.value.message
    with limited.open_http() as http:
        body = {"filename": "f", "purpose": "fine-tune", "mime_type": "text/plain", "bytes": 41}
        assert assert_error(http.post("/v1/uploads", json=body), 400)["code"] == "quota_exceeded"
        assert http.post("/v1/uploads", json={**body, "bytes": 40}).status_code == 200
        assert http.get("/v1/me").json()["stored_bytes"] == 100
    client.files.delete(file.id)
    client.files.create(file=b"x" * 60, purpose="fine-tune")


def test_an_upload_counts_until_it_expires(limited_server: LimitedServer) -> None:
    """Its bytes are free as soon as it expires, before the cleanup removes it."""
    limited = limited_server.with_new_project(max_bytes=100)

    async def expire(session: Any) -> None:
        await session.execute(update(Upload).where(col(Upload.id) == upload.id).values(expires_at=time.time() - 1))

    body: Any = {"filename": "f", "purpose": "fine-tune", "mime_type": "text/plain", "bytes": 90}
    upload = limited.get_client().uploads.create(**body)
    with limited.open_http() as http:
        assert http.get("/v1/me").json()["stored_bytes"] == 90
        assert assert_error(http.post("/v1/uploads", json=body), 400)["code"] == "quota_exceeded"
        limited.run_in_session(expire)
        assert http.get("/v1/me").json()["stored_bytes"] == 0
        assert http.post("/v1/uploads", json=body).status_code == 200


def test_bytes_of_concurrent_uploads(limited_server: LimitedServer) -> None:
    limited = limited_server.with_new_project(max_bytes=50)
    with limited.open_http() as http, ThreadPoolExecutor(8) as pool:
        form = {"data": {"purpose": "fine-tune"}, "files": {"file": ("f", b"x" * 10)}}
        statuses = list(pool.map(lambda _: http.post("/v1/files", **form).status_code, range(8)))  # type: ignore[arg-type]
    assert sorted(statuses) == [200] * 5 + [400] * 3


@pytest.mark.parametrize(
    ("milliseconds", "text"),
    [(0, "0ms"), (12, "12ms"), (1000, "1s"), (8640, "8.64s"), (59_999, "60s"), (60_000, "1m0s"), (360_000, "6m0s")],
)
def test_durations_are_openai_s(milliseconds: int, text: str) -> None:
    assert format_duration(milliseconds) == text


def test_nothing_is_limited_while_redis_is_down(limited_server: LimitedServer) -> None:
    """This test is the last one because it first suspends and then kills Redis."""
    with limited_server.with_new_project(requests_per_minute=1).open_http() as http:
        assert http.get("/v1/me").status_code == 200
        assert http.get("/v1/me").status_code == 429
        limited_server.redis_process.send_signal(signal.SIGSTOP)
        start = time.monotonic()
        responses = [http.get("/v1/me") for _ in range(5)]
        assert time.monotonic() - start < 3
        limited_server.redis_process.kill()
        responses.append(http.get("/v1/me"))
    assert {response.status_code for response in responses} == {200}
    assert _get_rate_limit_headers(responses[0]) == {}

"""Retries: conditions, delays, and the final result."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import httpx
import pytest

import luthier
from luthier import AsyncLuthier, Luthier
from luthier._retry import compute_retry_delay
from tests.api.stack import Stack
from tests.sdk.faulty_proxy import run_faulty_proxy

ROWS = b'{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}\n'


def build_response(status: int, **headers: str) -> httpx.Response:
    return httpx.Response(status, headers={name.replace("_", "-"): value for name, value in headers.items()})


@pytest.mark.parametrize("status", [408, 409, 429, 500, 502, 503, 504])
def test_transient_errors_are_retried(status: int) -> None:
    assert compute_retry_delay(build_response(status), 0) is not None


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 413, 422])
def test_permanent_errors_are_not_retried(status: int) -> None:
    assert compute_retry_delay(build_response(status), 0) is None


def test_the_server_decides_about_a_retry() -> None:
    assert compute_retry_delay(build_response(409, x_should_retry="false"), 0) is None
    assert compute_retry_delay(build_response(400, x_should_retry="true"), 0) is not None


def test_the_server_sets_the_delay() -> None:
    assert compute_retry_delay(build_response(429, retry_after="7"), 0) == 7
    assert compute_retry_delay(build_response(429, retry_after="7", retry_after_ms="20"), 0) == 0.02
    assert compute_retry_delay(build_response(503, retry_after="Wed, 21 Oct 2015 07:28:00 GMT"), 0) == 0
    assert 0.375 <= (compute_retry_delay(build_response(503, retry_after="soon"), 0) or 0) <= 0.5
    assert compute_retry_delay(build_response(429, retry_after="121"), 0) is None


def test_delays_double_up_to_eight_seconds() -> None:
    for attempt, max_delay in enumerate([0.5, 1, 2, 4, 8, 8]):
        delays = [compute_retry_delay(httpx.ConnectError("no"), attempt) or 0.0 for _ in range(50)]
        assert all(0.75 * max_delay <= seconds <= max_delay for seconds in delays)
        assert len(set(delays)) > 1


def test_two_refusals_are_retried_and_a_third_is_raised(stack: Stack) -> None:
    with run_faulty_proxy(stack.url) as server, Luthier(base_url=server.url, api_key=stack.tenant.key) as client:
        server.faults = ["refuse", "refuse"]
        assert [model.id for model in client.models.list()]
        server.faults = ["refuse"] * 3
        with pytest.raises(luthier.InternalServerError, match="Not now") as raised:
            client.models.retrieve("starter")
        assert (raised.value.status, raised.value.code) == (503, "busy")
        assert len(server.requests) == 6


def test_a_permanent_refusal_is_raised_immediately(stack: Stack) -> None:
    with run_faulty_proxy(stack.url) as server, Luthier(base_url=server.url, api_key=stack.tenant.key) as client:
        server.refusal, server.faults = (429, {"retry-after": "3600"}), ["refuse"]
        with pytest.raises(luthier.RateLimitError):
            client.models.retrieve("starter")
        assert len(server.requests) == 1


def test_every_attempt_carries_one_key_and_every_call_its_own(stack: Stack) -> None:
    with run_faulty_proxy(stack.url) as server, Luthier(base_url=server.url, api_key=stack.tenant.key) as client:
        server.faults = ["lose"]
        first = client.files.upload(ROWS)
        second = client.files.upload(ROWS)
        keys = [headers["idempotency-key"] for _, _, headers in server.requests]
        assert first.id != second.id
        assert keys[0] == keys[1] != keys[2]
        client.chat("starter", "hello")
        assert "idempotency-key" not in server.requests[-1][2]


def test_every_attempt_sends_the_complete_file(stack: Stack, tmp_path: Path) -> None:
    with run_faulty_proxy(stack.url) as server, Luthier(base_url=server.url, api_key=stack.tenant.key) as client:
        server.faults = ["refuse", "lose"]
        sent: list[int] = []
        data = ROWS * 50_000
        (tmp_path / "rows.jsonl").write_bytes(data)
        file = client.files.upload(tmp_path / "rows.jsonl", progress=lambda done, total: sent.append(done))
        assert file.bytes_ == len(data)
        assert sent.count(len(data)) == 3


def test_no_server(stack: Stack) -> None:
    with Luthier(base_url="http://127.0.0.1:9", api_key="sk", max_retries=1) as client:
        began = time.monotonic()
        with pytest.raises(luthier.APIConnectionError):
            client.models.retrieve("starter")
        assert time.monotonic() - began > 0.3


def test_no_response_in_time(stack: Stack) -> None:
    with (
        Luthier(base_url=stack.url, api_key=stack.tenant.key, timeout=0.2, max_retries=0) as client,
        pytest.raises(luthier.APITimeoutError),
    ):
        client.chat("starter", "hang")


def test_the_async_client_does_the_same(stack: Stack) -> None:
    async def run(url: str) -> list[str]:
        async with AsyncLuthier(base_url=url, api_key=stack.tenant.key) as client:
            with pytest.raises(luthier.NotFoundError) as raised:
                await client.models.retrieve("nothing/at:all")
            assert raised.value.param == "model"
            return [model.id async for model in client.models.list()]

    with run_faulty_proxy(stack.url) as server:
        server.faults = ["refuse"]
        assert "starter" in asyncio.run(run(server.url))

"""Overload: more requests than the limit, and clients that stall, over raw sockets and streams."""

from __future__ import annotations

import asyncio
import json
import socket
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from api.app import create_app
from api.server.timeouts import TimeoutProtocol
from storage.ids import new_id
from storage.tables import Event, Job
from tests.api.stack import Stack, get_port, run_server, run_stack
from tests.api.test_errors import assert_error

pytestmark = [pytest.mark.anyio, pytest.mark.integration]

MAX_REQUESTS, MAX_EVENT_STREAMS, BODY_SECONDS = 4, 2, 1.0
CHAT_PATH = "/v1/chat/completions"


class FastTimeoutProtocol(TimeoutProtocol):
    header_timeout_seconds = 1.5
    write_timeout_seconds = 1.0


@pytest.fixture(scope="module")
def small_stack() -> Iterator[Stack]:
    with (
        tempfile.TemporaryDirectory(prefix="luthier-") as home,
        run_stack(
            Path(home), max_requests=MAX_REQUESTS, max_event_streams=MAX_EVENT_STREAMS, body_seconds=BODY_SECONDS
        ) as stack,
        run_server(create_app(stack.settings), host="127.0.0.1", port=0, http=FastTimeoutProtocol) as server,
    ):
        yield replace(stack, url=f"http://127.0.0.1:{get_port(server)}")


@asynccontextmanager
async def open_client(stack: Stack) -> AsyncIterator[httpx.AsyncClient]:
    limits = httpx.Limits(max_connections=None)
    headers = {"authorization": f"Bearer {stack.tenant.key}"}
    async with httpx.AsyncClient(base_url=stack.url, headers=headers, timeout=20, limits=limits) as client:
        yield client


def build_chat(content: str, **options: Any) -> dict[str, Any]:
    return {"model": "starter", "messages": [{"role": "user", "content": content}], **options}


async def test_excess_requests_get_a_503_with_retry_after(small_stack: Stack) -> None:
    async with open_client(small_stack) as client:
        async with AsyncExitStack() as open_streams:
            for _ in range(MAX_REQUESTS):
                stream = client.stream("POST", CHAT_PATH, json=build_chat("endless", stream=True))
                assert (await open_streams.enter_async_context(stream)).status_code == 200
            rejected = await client.post(CHAT_PATH, json=build_chat("Hi"))
            error = assert_error(rejected, 503)
            assert (error["type"], error["code"]) == ("server_error", "overloaded")
            assert int(rejected.headers["retry-after"]) > 0
            assert rejected.headers["x-request-id"].startswith("req_")
            assert (await client.get("/healthz")).status_code == 200
            assert (await client.get("/v1/models", headers={"authorization": ""})).status_code == 503
        for _ in range(100):
            if (response := await client.post(CHAT_PATH, json=build_chat("Hi"))).status_code == 200:
                break
            await asyncio.sleep(0.02)
        assert response.status_code == 200, "slots are free again after their clients disconnect"


async def test_ten_times_the_limit_is_served_or_rejected_immediately(small_stack: Stack) -> None:
    async with open_client(small_stack) as client:
        requests = [client.post(CHAT_PATH, json=build_chat("Hi")) for _ in range(10 * MAX_REQUESTS)]
        responses = await asyncio.wait_for(asyncio.gather(*requests), 20)
    statuses = [response.status_code for response in responses]
    assert set(statuses) <= {200, 503}
    assert statuses.count(200) >= MAX_REQUESTS


async def test_event_streams_have_their_own_limit(small_stack: Stack) -> None:
    job = await asyncio.to_thread(small_stack.insert_job, state="running")
    path = f"/v1/fine_tuning/jobs/{job.id}/events/stream"
    async with open_client(small_stack) as client, AsyncExitStack() as open_streams:
        for _ in range(MAX_EVENT_STREAMS):
            response = await open_streams.enter_async_context(client.stream("GET", path))
            assert response.status_code == 200
        assert assert_error(await client.get(path), 503)["code"] == "overloaded"
        for _ in range(MAX_REQUESTS):
            response = await open_streams.enter_async_context(
                client.stream("POST", CHAT_PATH, json=build_chat("endless", stream=True))
            )
            assert response.status_code == 200, "event streams do not use the other slots"


def connect(stack: Stack, data: bytes = b"") -> socket.socket:
    url = httpx.URL(stack.url)
    raw = socket.create_connection((url.host, url.port or 0), timeout=10)
    raw.sendall(data)
    return raw


def read_all(raw: socket.socket) -> bytes:
    """Read until the server closes the connection."""
    parts = []
    while part := raw.recv(65536):
        parts.append(part)
    return b"".join(parts)


def build_head(stack: Stack, length: int) -> bytes:
    lines = [
        f"POST {CHAT_PATH} HTTP/1.1",
        "host: x",
        f"authorization: Bearer {stack.tenant.key}",
        "content-type: application/json",
        f"content-length: {length}",
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


@pytest.mark.parametrize("drips", [False, True])
def test_a_body_that_never_comes_is_a_408(small_stack: Stack, drips: bool) -> None:
    with closing(connect(small_stack, build_head(small_stack, 1000) + b'{"model"')) as raw:
        start = time.monotonic()
        while drips and time.monotonic() - start < BODY_SECONDS * 0.8:
            raw.sendall(b" ")
            time.sleep(0.1)
        response = read_all(raw)
        assert BODY_SECONDS * 0.9 < time.monotonic() - start < BODY_SECONDS + 2
    head, _, body = response.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 408 ")
    assert b"x-request-id: req_" in head.lower()
    error = json.loads(body)["error"]
    assert (error["type"], error["code"], error["param"]) == ("invalid_request_error", "request_timeout", None)


def test_a_large_body_gets_more_time(small_stack: Stack) -> None:
    body = json.dumps(build_chat("Hi")).encode().ljust(600_000)
    with closing(connect(small_stack, build_head(small_stack, len(body)))) as raw:
        for offset in range(0, len(body), 50_000):
            raw.sendall(body[offset : offset + 50_000])
            time.sleep(2 * BODY_SECONDS / 12)
        assert raw.recv(12) == b"HTTP/1.1 200"


async def test_200_half_open_connections_block_no_one(small_stack: Stack) -> None:
    partial_requests = [b"", b"GET", b"GET /healthz HTTP/1.1\r\nhost: x\r\n", b"\r\n"]
    start = time.monotonic()
    connections = [connect(small_stack, partial_requests[number % 4]) for number in range(200)]
    try:
        async with open_client(small_stack) as client:
            for _ in range(20):
                sent_at = time.monotonic()
                assert (await client.post(CHAT_PATH, json=build_chat("Hi"))).status_code == 200
                assert time.monotonic() - sent_at < 1
        assert time.monotonic() - start < 10
        for raw in connections:
            assert await asyncio.to_thread(read_all, raw) == b""
        assert time.monotonic() - start < FastTimeoutProtocol.header_timeout_seconds + 5
    finally:
        for raw in connections:
            raw.close()


def test_a_keep_alive_connection_has_the_same_deadlines(small_stack: Stack) -> None:
    with closing(connect(small_stack, b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")) as raw:
        assert raw.recv(12) == b"HTTP/1.1 200"
        raw.sendall(b"GET /healthz HTTP/1.1\r\n")
        start = time.monotonic()
        while time.monotonic() - start < FastTimeoutProtocol.header_timeout_seconds * 0.6:
            raw.sendall(b"a: b\r\n")
            time.sleep(0.1)
        read_all(raw)
        assert time.monotonic() - start < FastTimeoutProtocol.header_timeout_seconds + 2


def test_a_slow_response_is_not_cut_off(small_stack: Stack) -> None:
    """The deadlines apply to what a client sends, not to responses."""
    with closing(
        connect(
            small_stack,
            build_head(small_stack, len(body := json.dumps(build_chat("endless", stream=True)).encode())) + body,
        )
    ) as raw:
        deadline = time.monotonic() + FastTimeoutProtocol.header_timeout_seconds + BODY_SECONDS
        while time.monotonic() < deadline:
            assert raw.recv(65536), "the stream ended"


EVENT_COUNT = 300
"""Number of events of 40 KB: more than the kernel's buffers of one connection hold."""


@pytest.fixture(scope="module")
def job_with_many_events(small_stack: Stack) -> Job:
    """A job with enough bytes of events for a stalled reader to block its stream."""
    job = small_stack.insert_job(state="running")
    common: dict[str, Any] = {"job_id": job.id, "attempt": 1, "created_at": 0, "level": "info"}
    padding = "x" * 40_000
    small_stack.insert(
        *[Event(id=new_id("event"), seq=n, message=f"{n}:{padding}", **common) for n in range(1, EVENT_COUNT + 1)]
    )
    return job


def open_event_stream(stack: Stack, job: Job) -> socket.socket:
    """Open an event stream with a small receive buffer and read only its beginning."""
    raw, url = socket.socket(), httpx.URL(stack.url)
    # Set before it connects, because the buffer determines the advertised TCP window.
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    raw.settimeout(10)
    raw.connect((url.host, url.port))
    path = f"/v1/fine_tuning/jobs/{job.id}/events/stream"
    raw.sendall(f"GET {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {stack.tenant.key}\r\n\r\n".encode())
    assert raw.recv(12) == b"HTTP/1.1 200"
    return raw


async def test_a_stalled_reader_loses_its_slot(small_stack: Stack, job_with_many_events: Job) -> None:
    path = (
        f"/v1/fine_tuning/jobs/{(await asyncio.to_thread(small_stack.insert_job, state='succeeded')).id}/events/stream"
    )
    async with open_client(small_stack) as client:
        stalled = [
            await asyncio.to_thread(open_event_stream, small_stack, job_with_many_events)
            for _ in range(MAX_EVENT_STREAMS)
        ]
        try:
            assert assert_error(await client.get(path), 503)["code"] == "overloaded"
            start = time.monotonic()
            for _ in range(150):
                if (response := await client.get(path)).status_code != 503:
                    break
                await asyncio.sleep(0.1)
            assert "event: done" in response.text
            assert time.monotonic() - start > FastTimeoutProtocol.write_timeout_seconds * 0.9
            for raw in stalled:
                # The reader gets only what the kernel had buffered.
                assert f'"message":"{EVENT_COUNT}:'.encode() not in await asyncio.to_thread(read_all, raw)
        finally:
            for raw in stalled:
                raw.close()


def test_a_slow_reader_keeps_its_slot(small_stack: Stack, job_with_many_events: Job) -> None:
    with closing(open_event_stream(small_stack, job_with_many_events)) as raw:
        received, deadline = b"", time.monotonic() + 4 * FastTimeoutProtocol.write_timeout_seconds
        while time.monotonic() < deadline:
            time.sleep(FastTimeoutProtocol.write_timeout_seconds / 4)
            received += raw.recv(2048)
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**20)
        while f'"message":"{EVENT_COUNT}:'.encode() not in received[-100_000:]:
            part = raw.recv(65536)
            assert part, "the server closed the connection"
            received += part

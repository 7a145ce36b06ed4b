"""More than the server takes, and clients that never finish what they send: raw sockets, real streams."""

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
from api.server.timeouts import Impatient
from storage.ids import new_id
from storage.tables import Event, Job
from tests.api.stack import Stack, port_of, running_stack, serving
from tests.api.test_errors import error_of

pytestmark = pytest.mark.anyio

PLACES, FOLLOWERS, BODY_SECONDS = 4, 2, 1.0
CHAT = "/v1/chat/completions"


class Quick(Impatient):
    head_seconds = 1.5
    write_seconds = 1.0


@pytest.fixture(scope="module")
def small() -> Iterator[Stack]:
    with (
        tempfile.TemporaryDirectory(prefix="luthier-") as home,
        running_stack(Path(home), max_requests=PLACES, max_followers=FOLLOWERS, body_seconds=BODY_SECONDS) as stack,
        serving(create_app(stack.settings), host="127.0.0.1", port=0, http=Quick) as server,
    ):
        yield replace(stack, url=f"http://127.0.0.1:{port_of(server)}")


@asynccontextmanager
async def client_of(stack: Stack) -> AsyncIterator[httpx.AsyncClient]:
    limits = httpx.Limits(max_connections=None)
    headers = {"authorization": f"Bearer {stack.ours.key}"}
    async with httpx.AsyncClient(base_url=stack.url, headers=headers, timeout=20, limits=limits) as client:
        yield client


def chat(words: str, **rest: Any) -> dict[str, Any]:
    return {"model": "starter", "messages": [{"role": "user", "content": words}], **rest}


async def test_more_than_the_server_takes_is_told_when_to_come_again(small: Stack) -> None:
    async with client_of(small) as client:
        async with AsyncExitStack() as held:
            for _ in range(PLACES):
                stream = client.stream("POST", CHAT, json=chat("endless", stream=True))
                assert (await held.enter_async_context(stream)).status_code == 200
            refused = await client.post(CHAT, json=chat("Hi"))
            error = error_of(refused, 503)
            assert (error["type"], error["code"]) == ("server_error", "overloaded")
            assert int(refused.headers["retry-after"]) > 0
            assert refused.headers["x-request-id"].startswith("req_")
            assert (await client.get("/healthz")).status_code == 200
            assert (await client.get("/v1/models", headers={"authorization": ""})).status_code == 503
        for _ in range(100):
            if (answer := await client.post(CHAT, json=chat("Hi"))).status_code == 200:
                break
            await asyncio.sleep(0.02)
        assert answer.status_code == 200, "places are free again when their clients have left"


async def test_ten_times_too_many_are_answered_or_turned_away_at_once(small: Stack) -> None:
    async with client_of(small) as client:
        asked = [client.post(CHAT, json=chat("Hi")) for _ in range(10 * PLACES)]
        answers = await asyncio.wait_for(asyncio.gather(*asked), 20)
    statuses = [answer.status_code for answer in answers]
    assert set(statuses) <= {200, 503}
    assert statuses.count(200) >= PLACES


async def test_followers_are_counted_apart(small: Stack) -> None:
    job = await asyncio.to_thread(small.job, state="running")
    path = f"/v1/fine_tuning/jobs/{job.id}/events/stream"
    async with client_of(small) as client, AsyncExitStack() as held:
        for _ in range(FOLLOWERS):
            response = await held.enter_async_context(client.stream("GET", path))
            assert response.status_code == 200
        assert error_of(await client.get(path), 503)["code"] == "overloaded"
        for _ in range(PLACES):
            response = await held.enter_async_context(client.stream("POST", CHAT, json=chat("endless", stream=True)))
            assert response.status_code == 200, "followers take none of the other places"


def connect(stack: Stack, sent: bytes = b"") -> socket.socket:
    url = httpx.URL(stack.url)
    raw = socket.create_connection((url.host, url.port or 0), timeout=10)
    raw.sendall(sent)
    return raw


def all_of(raw: socket.socket) -> bytes:
    """Until the server closes."""
    parts = []
    while part := raw.recv(65536):
        parts.append(part)
    return b"".join(parts)


def head_of(stack: Stack, length: int) -> bytes:
    lines = [
        f"POST {CHAT} HTTP/1.1",
        "host: x",
        f"authorization: Bearer {stack.ours.key}",
        "content-type: application/json",
        f"content-length: {length}",
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


@pytest.mark.parametrize("drips", [False, True])
def test_a_body_that_never_comes_is_a_408(small: Stack, drips: bool) -> None:
    with closing(connect(small, head_of(small, 1000) + b'{"model"')) as raw:
        began = time.monotonic()
        while drips and time.monotonic() - began < BODY_SECONDS * 0.8:
            raw.sendall(b" ")
            time.sleep(0.1)
        answer = all_of(raw)
        assert BODY_SECONDS * 0.9 < time.monotonic() - began < BODY_SECONDS + 2
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 408 ")
    assert b"x-request-id: req_" in head.lower()
    error = json.loads(body)["error"]
    assert (error["type"], error["code"], error["param"]) == ("invalid_request_error", "request_timeout", None)


def test_a_large_body_may_take_its_time(small: Stack) -> None:
    body = json.dumps(chat("Hi")).encode().ljust(600_000)
    with closing(connect(small, head_of(small, len(body)))) as raw:
        for at in range(0, len(body), 50_000):
            raw.sendall(body[at : at + 50_000])
            time.sleep(2 * BODY_SECONDS / 12)
        assert raw.recv(12) == b"HTTP/1.1 200"


async def test_200_half_open_connections_stop_nobody(small: Stack) -> None:
    beginnings = [b"", b"GET", b"GET /healthz HTTP/1.1\r\nhost: x\r\n", b"\r\n"]
    began = time.monotonic()
    open_ones = [connect(small, beginnings[at % 4]) for at in range(200)]
    try:
        async with client_of(small) as client:
            for _ in range(20):
                asked = time.monotonic()
                assert (await client.post(CHAT, json=chat("Hi"))).status_code == 200
                assert time.monotonic() - asked < 1
        assert time.monotonic() - began < 10
        for raw in open_ones:
            assert await asyncio.to_thread(all_of, raw) == b""
        assert time.monotonic() - began < Quick.head_seconds + 5
    finally:
        for raw in open_ones:
            raw.close()


def test_a_kept_connection_is_no_excuse(small: Stack) -> None:
    with closing(connect(small, b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")) as raw:
        assert raw.recv(12) == b"HTTP/1.1 200"
        raw.sendall(b"GET /healthz HTTP/1.1\r\n")
        began = time.monotonic()
        while time.monotonic() - began < Quick.head_seconds * 0.6:
            raw.sendall(b"a: b\r\n")
            time.sleep(0.1)
        all_of(raw)
        assert time.monotonic() - began < Quick.head_seconds + 2


def test_a_request_that_takes_long_to_answer_is_not_hurried(small: Stack) -> None:
    """The deadlines are for what a client sends."""
    with closing(
        connect(small, head_of(small, len(body := json.dumps(chat("endless", stream=True)).encode())) + body)
    ) as raw:
        ends = time.monotonic() + Quick.head_seconds + BODY_SECONDS
        while time.monotonic() < ends:
            assert raw.recv(65536), "the stream goes on"


MANY = 300
"""Events of 40 KB: more than the kernel keeps for a reader."""


@pytest.fixture(scope="module")
def long_past(small: Stack) -> Job:
    """A job with so much to tell that a reader who takes nothing stalls the server."""
    job = small.job(state="running")
    common: dict[str, Any] = {"job_id": job.id, "attempt": 1, "created_at": 0, "level": "info"}
    words = "x" * 40_000
    small.insert(*[Event(id=new_id("event"), seq=n, message=f"{n}:{words}", **common) for n in range(1, MANY + 1)])
    return job


def follow(stack: Stack, job: Job) -> socket.socket:
    """A reader who has taken the beginning."""
    raw, url = socket.socket(), httpx.URL(stack.url)
    # Before it connects: the window that it tells the server is made of it.
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    raw.settimeout(10)
    raw.connect((url.host, url.port))
    path = f"/v1/fine_tuning/jobs/{job.id}/events/stream"
    raw.sendall(f"GET {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {stack.ours.key}\r\n\r\n".encode())
    assert raw.recv(12) == b"HTTP/1.1 200"
    return raw


async def test_who_takes_nothing_of_a_stream_loses_its_place(small: Stack, long_past: Job) -> None:
    path = f"/v1/fine_tuning/jobs/{(await asyncio.to_thread(small.job, state='succeeded')).id}/events/stream"
    async with client_of(small) as client:
        stalled = [await asyncio.to_thread(follow, small, long_past) for _ in range(FOLLOWERS)]
        try:
            assert error_of(await client.get(path), 503)["code"] == "overloaded"
            began = time.monotonic()
            for _ in range(150):
                if (answer := await client.get(path)).status_code != 503:
                    break
                await asyncio.sleep(0.1)
            assert "event: done" in answer.text
            assert time.monotonic() - began > Quick.write_seconds * 0.9
            for raw in stalled:
                # What the kernel had, and no more.
                assert f'"message":"{MANY}:'.encode() not in await asyncio.to_thread(all_of, raw)
        finally:
            for raw in stalled:
                raw.close()


def test_who_reads_slowly_keeps_it(small: Stack, long_past: Job) -> None:
    with closing(follow(small, long_past)) as raw:
        taken, ends = b"", time.monotonic() + 4 * Quick.write_seconds
        while time.monotonic() < ends:
            time.sleep(Quick.write_seconds / 4)
            taken += raw.recv(2048)
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**20)
        while f'"message":"{MANY}:'.encode() not in taken[-100_000:]:
            part = raw.recv(65536)
            assert part, "the server closed"
            taken += part

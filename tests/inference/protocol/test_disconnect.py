"""Work stops when its client leaves, over message queues and over a real server's sockets."""

from __future__ import annotations

import asyncio
import gc
import socket
import threading
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from inference.protocol.disconnect import cancel_on_disconnect
from tests.api.stack import get_port, run_server

pytestmark = pytest.mark.anyio

DISCONNECT = {"type": "http.disconnect"}


@dataclass
class Work:
    """Work that ends when it is told to, and records how it ended."""

    started: asyncio.Event = field(default_factory=asyncio.Event)
    finish: asyncio.Event = field(default_factory=asyncio.Event)
    cleanup_seconds: float = 0.0
    end: str = "running"

    async def run(self) -> str:
        self.started.set()
        try:
            await self.finish.wait()
        except asyncio.CancelledError:
            await asyncio.sleep(self.cleanup_seconds)
            self.end = "cancelled"
            raise
        self.end = "finished"
        return "result"


class Client:
    """The client's end of a request whose body has been read."""

    def __init__(self) -> None:
        self.messages: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.request = Request({"type": "http"}, self.messages.get)  # type: ignore[arg-type]

    def leave(self) -> None:
        self.messages.put_nowait(DISCONNECT)


async def leave_after_start(client: Client, work: Work) -> None:
    await work.started.wait()
    client.leave()


async def call(client: Client, work: Coroutine[Any, Any, str]) -> str:
    """Call the function under test, and fail if it leaves a task behind."""
    before = asyncio.all_tasks()
    try:
        return await cancel_on_disconnect(client.request, work)
    finally:
        assert asyncio.all_tasks() <= before


@pytest.fixture
def _fail_for_unretrieved_exceptions(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    yield
    gc.collect()
    assert "never retrieved" not in caplog.text


async def test_the_result_is_returned_while_the_client_waits() -> None:
    client, work = Client(), Work()
    work.finish.set()
    assert await call(client, work.run()) == "result"
    assert work.end == "finished"


async def test_other_messages_do_not_stop_the_work() -> None:
    client, work = Client(), Work()
    client.messages.put_nowait({"type": "http.request", "body": b"", "more_body": False})
    asyncio.get_running_loop().call_later(0.1, work.finish.set)
    assert await call(client, work.run()) == "result"
    assert client.messages.empty()


async def test_the_work_is_cancelled_when_the_client_leaves() -> None:
    client, work = Client(), Work()
    leaving = asyncio.create_task(leave_after_start(client, work))
    with pytest.raises(ClientDisconnect):
        await call(client, work.run())
    assert work.end == "cancelled"
    await leaving


async def test_the_cleanup_of_cancelled_work_is_awaited() -> None:
    client, work = Client(), Work(cleanup_seconds=0.1)
    leaving = asyncio.create_task(leave_after_start(client, work))
    with pytest.raises(ClientDisconnect):
        await call(client, work.run())
    assert work.end == "cancelled", "returned before the cleanup ended"
    await leaving


@pytest.mark.usefixtures("_fail_for_unretrieved_exceptions")
async def test_an_exception_of_the_work_passes_through() -> None:
    async def fail() -> str:
        await asyncio.sleep(0)
        raise ZeroDivisionError("of the work")

    with pytest.raises(ZeroDivisionError, match="of the work"):
        await call(Client(), fail())


@pytest.mark.usefixtures("_fail_for_unretrieved_exceptions")
async def test_an_exception_during_cancellation_is_not_reported_to_a_client_that_left() -> None:
    client = Client()

    async def fail_late() -> str:
        try:
            client.leave()
            await asyncio.sleep(60)
        finally:
            raise ZeroDivisionError("during cleanup")

    with pytest.raises(ClientDisconnect):
        await call(client, fail_late())


async def test_a_result_wins_against_a_disconnect_at_the_same_time() -> None:
    client = Client()

    async def finish_as_the_client_leaves() -> str:
        client.leave()
        return "result"

    assert await call(client, finish_as_the_client_leaves()) == "result"


async def test_a_cancelled_request_cancels_its_work() -> None:
    client, work = Client(), Work()
    handling = asyncio.create_task(call(client, work.run()))
    await work.started.wait()
    handling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await handling
    assert work.end == "cancelled"


@dataclass
class Server:
    """Server with one route per outcome, and the events of its requests in order."""

    url: str
    port: int
    events: list[str]
    waiting: threading.Event
    ended: threading.Event
    leftover_tasks: list[str]


def _build_app(server: Server) -> Starlette:
    async def sleep() -> str:
        server.waiting.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            server.events.append("cancelled")
            raise
        return "late"

    async def fail() -> str:
        raise LookupError("of the work")

    async def echo(body: bytes) -> str:
        await asyncio.sleep(0.05)
        return body.decode()

    async def handle(request: Request) -> Response:
        body = await request.body()
        works: dict[str, Coroutine[Any, Any, str]] = {"sleep": sleep(), "fail": fail(), "echo": echo(body)}
        chosen = works.pop(request.path_params["work"])
        for unused in works.values():
            unused.close()
        try:
            return PlainTextResponse(await cancel_on_disconnect(request, chosen))
        except LookupError as error:
            return PlainTextResponse(str(error), 400)
        except ClientDisconnect:
            server.events.append("disconnected")
            return Response(status_code=499)
        finally:
            others = asyncio.all_tasks() - {asyncio.current_task()}
            server.leftover_tasks += [str(task) for task in others if "_wait_for_disconnect" in str(task)]
            server.ended.set()

    return Starlette(routes=[Route("/{work}", handle, methods=["POST"])])


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server("", 0, [], threading.Event(), threading.Event(), [])
    with run_server(_build_app(server), host="127.0.0.1", port=0) as running:
        assert isinstance(running, uvicorn.Server)
        server.port = get_port(running)
        server.url = f"http://127.0.0.1:{server.port}"
        yield server
    assert server.leftover_tasks == []


def _open_request(port: int, path: str) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), timeout=10)
    connection.sendall(f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\nhi".encode())
    return connection


def test_a_server_responds_to_clients_that_stay(server: Server) -> None:
    with httpx.Client(base_url=server.url) as http:
        for number in range(3):
            response = http.post("/echo", content=f"body {number}")
            assert (response.status_code, response.text) == (200, f"body {number}")
        failed = http.post("/fail")
    assert (failed.status_code, failed.text) == (400, "of the work")
    assert server.events == []


def test_a_server_cancels_the_work_of_a_client_that_leaves(server: Server) -> None:
    connection = _open_request(server.port, "/sleep")
    assert server.waiting.wait(10)
    assert not server.ended.is_set()
    connection.close()
    assert server.ended.wait(10)
    assert server.events == ["cancelled", "disconnected"]
    assert httpx.post(f"{server.url}/echo", content="next").text == "next"

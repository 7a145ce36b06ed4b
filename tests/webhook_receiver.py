"""A real HTTP server that receives webhooks, and a listener that counts connections."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from tests.api.stack import get_port, run_server


@dataclass
class Receiver:
    """A webhook receiver that records requests. It responds with each of ``statuses``, then with
    200."""

    port: int = 0
    scheme: str = "http"
    statuses: list[int] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    redirect_url: str = ""
    """Target of the redirect that ``/redirect`` responds with."""

    def build_url(self, path: str = "/hook", host: str = "127.0.0.1") -> str:
        return f"{self.scheme}://{host}:{self.port}{path}"

    async def hook(self, request: Request) -> Response:
        self.bodies.append(await request.body())
        self.headers.append(dict(request.headers))
        return Response(status_code=self.statuses.pop(0) if self.statuses else 200)

    async def redirect(self, request: Request) -> Response:
        return RedirectResponse(self.redirect_url, 307)

    async def silent(self, request: Request) -> Response:
        await asyncio.sleep(3)
        return Response()

    async def endless(self, request: Request) -> Response:
        async def chunks() -> Any:
            while not await request.is_disconnected():
                yield b"x" * 65536

        return StreamingResponse(chunks())


@contextmanager
def run_receiver(**tls: Any) -> Iterator[Receiver]:
    receiver = Receiver(scheme="https" if tls else "http")
    routes = [
        Route(f"/{name}", getattr(receiver, name), methods=["POST"])
        for name in ("hook", "redirect", "silent", "endless")
    ]
    with run_server(Starlette(routes=routes), host="127.0.0.1", port=0, lifespan="off", **tls) as server:
        receiver.port = get_port(server)
        yield receiver


@dataclass
class ConnectionCounter:
    """A listener on every address of this machine, for IPv4 and, if available, IPv6."""

    port: int
    connections: int = 0


@contextmanager
def count_connections() -> Iterator[ConnectionCounter]:
    has_ipv6 = socket.has_dualstack_ipv6()
    listener = (
        socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True)
        if has_ipv6
        else socket.create_server(("0.0.0.0", 0))
    )
    counter = ConnectionCounter(listener.getsockname()[1])

    def count() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            counter.connections += 1
            connection.close()

    thread = threading.Thread(target=count, daemon=True)
    thread.start()
    try:
        yield counter
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(5)

"""Proxy between client and API that injects faults before or after the API handles a request."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.api.stack import get_port, run_server

Fault = Literal["refuse", "lose", "damage", "cut", "ok"]


@dataclass
class FaultyProxy:
    """Proxy that applies ``faults`` to requests in order.

    ``requests`` has the method, path and headers of every request.
    """

    upstream_url: str
    faults: list[Fault] = field(default_factory=list)
    refusal: tuple[int, dict[str, str]] = (503, {"retry-after-ms": "1"})
    requests: list[tuple[str, str, httpx.Headers]] = field(default_factory=list)
    url: str = ""

    async def handle(self, request: Request) -> Response:
        body = await request.body()
        self.requests.append((request.method, request.url.path, httpx.Headers(request.headers.raw)))
        fault = self.faults.pop(0) if self.faults else "ok"
        if fault == "refuse":
            status, headers = self.refusal
            return JSONResponse({"error": {"message": "Not now.", "code": "busy"}}, status, headers)
        headers = [(name, value) for name, value in request.headers.raw if name != b"host"]
        async with httpx.AsyncClient(base_url=self.upstream_url, timeout=20) as client:
            path = request.scope["raw_path"].decode() + (f"?{request.url.query}" if request.url.query else "")
            response = await client.request(request.method, path, content=body, headers=headers)
        if fault == "lose":
            # The API has handled the request, but the client does not get the response.
            return JSONResponse({}, 502, {"retry-after-ms": "1"})
        content = response.content
        if fault == "damage":
            content = b"x" * len(content)
        if fault == "cut":
            content = content[: len(content) // 2]
        kept_headers = {
            name: value for name, value in response.headers.items() if name.startswith(("x-", "content-type"))
        }
        return Response(content, response.status_code, kept_headers)


@contextmanager
def run_faulty_proxy(upstream_url: str) -> Iterator[FaultyProxy]:
    """Run a proxy in front of the API at ``upstream_url``."""
    proxy = FaultyProxy(upstream_url)
    methods = ["GET", "POST", "DELETE"]
    app = Starlette(routes=[Route("/{path:path}", proxy.handle, methods=methods)])
    with run_server(app, host="127.0.0.1", port=0) as server:
        proxy.url = f"http://127.0.0.1:{get_port(server)}"
        yield proxy

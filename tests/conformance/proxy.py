"""Something between client and server that loses answers: what a network does, at a chosen moment.

A request with the header ``x-conformance-break: HOW MARK`` is broken once for each mark; the next try passes.
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

BREAK = "x-conformance-break"

_BODY = {"error": {"message": "broken on purpose", "type": "server_error", "param": None, "code": None}}
_HOP_BY_HOP = frozenset({"connection", "transfer-encoding", "keep-alive", "content-length"})


class Proxy(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, upstream: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream = upstream.removeprefix("http://")
        self.broken: set[str] = set()
        self.asked: list[dict[str, str]] = []
        """Headers of what came, in order."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Proxy

    def do_GET(self) -> None:
        self._pass_on(b"")

    def do_POST(self) -> None:
        self._pass_on(self.rfile.read(int(self.headers["content-length"])))

    def log_message(self, *_: Any) -> None:
        pass

    def _pass_on(self, body: bytes) -> None:
        self.server.asked.append(dict(self.headers))
        how, _, mark = self.headers.get(BREAK, "").partition(" ")
        if not how or mark in self.server.broken:
            self._answer(*self._upstream(body))
            return
        self.server.broken.add(mark)
        if how == "refused":
            self._fail(503)
            return
        # The server does the work; its answer never arrives.
        self._upstream(body)
        if how == "error":
            self._fail(500)
        else:
            self.close_connection = True

    def _upstream(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection(self.server.upstream, timeout=30)
        try:
            headers = {name: value for name, value in self.headers.items() if name.lower() not in _HOP_BY_HOP}
            connection.request(self.command, self.path, body or None, headers)
            answer = connection.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read()
        finally:
            connection.close()

    def _fail(self, status: int) -> None:
        headers = {"content-type": "application/json", "retry-after-ms": "10"}
        self._answer(status, headers, json.dumps(_BODY).encode())

    def _answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            if name.lower() not in _HOP_BY_HOP:
                self.send_header(name, value)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def proxying(upstream: str) -> Iterator[Proxy]:
    """``upstream``: ``http://host:port``."""
    proxy = Proxy(upstream)
    thread = Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        proxy.shutdown()
        proxy.server_close()
        thread.join(5)

"""Proxy between client and server that loses responses on request, as a network can.

The header ``x-conformance-break: FAILURE MARK`` breaks one request for each mark; a retry passes.
Failures: ``refused`` (503 before the work), ``error`` (500 after the work) and ``lost`` (the
connection closes after the work).
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

BREAK_HEADER = "x-conformance-break"

_ERROR_BODY = {"error": {"message": "broken on purpose", "type": "server_error", "param": None, "code": None}}
_HOP_BY_HOP_HEADERS = frozenset({"connection", "transfer-encoding", "keep-alive", "content-length"})


class Proxy(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, upstream: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream = upstream.removeprefix("http://")
        self.broken_marks: set[str] = set()
        self.request_headers: list[dict[str, str]] = []
        """Headers of the requests, in order."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Proxy

    def do_GET(self) -> None:
        self._forward(b"")

    def do_POST(self) -> None:
        self._forward(self.rfile.read(int(self.headers["content-length"])))

    def log_message(self, *_: Any) -> None:
        pass

    def _forward(self, body: bytes) -> None:
        self.server.request_headers.append(dict(self.headers))
        failure, _, mark = self.headers.get(BREAK_HEADER, "").partition(" ")
        if not failure or mark in self.server.broken_marks:
            self._send_response(*self._request_upstream(body))
            return
        self.server.broken_marks.add(mark)
        if failure == "refused":
            self._send_error_response(503)
            return
        # The server does the work, but its response never arrives.
        self._request_upstream(body)
        if failure == "error":
            self._send_error_response(500)
        else:
            self.close_connection = True

    def _request_upstream(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection(self.server.upstream, timeout=30)
        try:
            headers = {name: value for name, value in self.headers.items() if name.lower() not in _HOP_BY_HOP_HEADERS}
            connection.request(self.command, self.path, body or None, headers)
            response = connection.getresponse()
            return response.status, dict(response.getheaders()), response.read()
        finally:
            connection.close()

    def _send_error_response(self, status: int) -> None:
        headers = {"content-type": "application/json", "retry-after-ms": "10"}
        self._send_response(status, headers, json.dumps(_ERROR_BODY).encode())

    def _send_response(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            if name.lower() not in _HOP_BY_HOP_HEADERS:
                self.send_header(name, value)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def run_proxy(upstream: str) -> Iterator[Proxy]:
    """Run a proxy to ``upstream``, which is ``http://host:port``."""
    proxy = Proxy(upstream)
    thread = Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        proxy.shutdown()
        proxy.server_close()
        thread.join(5)

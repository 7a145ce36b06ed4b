"""Load generator: polling clients, each on its own connection.

The clients do as little work as possible, so that the server gets the CPU. Latency counts from the
time at which a request was due, not from when it was sent. A late response delays the next
requests, and a generator that waited for it would hide that delay (coordinated omission).
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import cast

ResponseCallback = Callable[[float, bytes | Exception], None]
"""Called for each request with the seconds since it was due and its response or error."""


@dataclass
class LatencyRecorder:
    """Latencies (seconds) and errors of all requests that were due after the warm-up."""

    latencies: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def build_callback(self, expected: bytes) -> ResponseCallback:
        """Return a callback that records a request.

        The response must be a 200 and contain ``expected``.
        """

        def record(seconds: float, response: bytes | Exception) -> None:
            self.latencies.append(seconds)
            if isinstance(response, Exception):
                self.errors.append(f"{type(response).__name__}: {response}")
            elif not (response.startswith(b"HTTP/1.1 200") and expected in response):
                self.errors.append(response[:200].decode())

        return record

    def quantile_ms(self, quantile: float) -> float:
        """Return the latency quantile in milliseconds."""
        ordered = sorted(self.latencies)
        return 1000 * ordered[min(len(ordered) - 1, int(quantile * len(ordered)))]


@dataclass(frozen=True)
class LoadProfile:
    """Schedule of all clients.

    Every client sends one request per ``period`` seconds at a random phase, for ``seconds`` after
    ``warm_up``. With ``period`` 0 it sends the next request as soon as it has a response.
    """

    host: str
    port: int
    period: float
    warm_up: float
    seconds: float


class Connection(asyncio.Protocol):
    """Keep-alive connection that carries one request at a time."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._buffer = b""
        self._response: asyncio.Future[bytes] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transport has the methods of asyncio.Transport but is not a subclass.
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, separator, body = self._buffer.partition(b"\r\n\r\n")
        if not separator or self._response is None:
            return
        lowered = head.lower()
        start = lowered.find(b"content-length:")
        length = int(lowered[start + 15 :].split(b"\r\n", 1)[0])
        if len(body) >= length:
            response, self._buffer = self._buffer, b""
            self._response.set_result(response)

    def connection_lost(self, error: Exception | None) -> None:
        if self._response and not self._response.done():
            self._response.set_exception(ConnectionError("the server closed the connection"))

    async def send_request(self, request: bytes) -> bytes:
        """Send the request and return the bytes of head and body.

        Raises ``ConnectionError``, ``TimeoutError``.
        """
        assert self._transport is not None
        self._response = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        async with asyncio.timeout(30):
            return await self._response

    def close(self) -> None:
        if self._transport:
            self._transport.close()


def build_get(path: str, key: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nhost: luthier\r\nauthorization: Bearer {key}\r\n\r\n".encode()


def build_post(path: str, key: str, body: bytes) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nhost: luthier\r\nauthorization: Bearer {key}\r\n"
    return f"{head}content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body


async def poll(load: LoadProfile, requests: Sequence[tuple[bytes, ResponseCallback]]) -> None:
    """Run one client per request until all have finished."""
    begin = asyncio.get_running_loop().time()
    async with asyncio.TaskGroup() as group:
        for request, callback in requests:
            group.create_task(_run_client(load, begin + random.uniform(0, load.period), request, callback))


async def _run_client(load: LoadProfile, due: float, request: bytes, callback: ResponseCallback) -> None:
    loop = asyncio.get_running_loop()
    measure_from, end = due + load.warm_up, due + load.warm_up + load.seconds
    _, connection = await loop.create_connection(Connection, load.host, load.port)
    try:
        while due < end:
            await asyncio.sleep(max(0.0, due - loop.time()))
            response: bytes | Exception
            try:
                response = await connection.send_request(request)
            except (ConnectionError, TimeoutError) as error:
                response = error
                connection.close()
                _, connection = await loop.create_connection(Connection, load.host, load.port)
            if due >= measure_from:
                callback(loop.time() - due, response)
            due = due + load.period if load.period else loop.time()
    finally:
        connection.close()

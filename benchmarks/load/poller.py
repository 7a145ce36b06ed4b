"""Clients that poll, each on a connection of its own: as little Python as can be, so that the server has the machine.

A request's time counts from the moment at which it was due, not from when it was sent: a server that answers late
delays what follows, and a generator that waited for it would hide that (coordinated omission).
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import cast

ResponseCallback = Callable[[float, bytes | Exception], None]
"""Told of a request: the seconds since it was due, and its answer."""


@dataclass
class LatencyRecorder:
    """Of every request that was due after the warm-up."""

    latencies: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def build_callback(self, expected: bytes) -> ResponseCallback:
        """Notes a request whose answer must be a 200 and hold this."""

        def record(seconds: float, answer: bytes | Exception) -> None:
            self.latencies.append(seconds)
            if isinstance(answer, Exception):
                self.errors.append(f"{type(answer).__name__}: {answer}")
            elif not (answer.startswith(b"HTTP/1.1 200") and expected in answer):
                self.errors.append(answer[:200].decode())

        return record

    def quantile_ms(self, quantile: float) -> float:
        """The smallest time within which this share of the requests was answered, in milliseconds."""
        ordered = sorted(self.latencies)
        return 1000 * ordered[min(len(ordered) - 1, int(quantile * len(ordered)))]


@dataclass(frozen=True)
class LoadProfile:
    """Every client asks once in ``period`` seconds, at a phase of its own, for ``seconds`` after ``warm_up``.

    ``period`` 0: it asks again as soon as it is answered.
    """

    host: str
    port: int
    period: float
    warm_up: float
    seconds: float


class Connection(asyncio.Protocol):
    """One kept-alive connection with one request on it at a time."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._buffer = b""
        self._response: asyncio.Future[bytes] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's has its methods, but is none of its subclasses.
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, found, body = self._buffer.partition(b"\r\n\r\n")
        if not found or self._response is None:
            return
        lowered = head.lower()
        start = lowered.find(b"content-length:")
        length = int(lowered[start + 15 :].split(b"\r\n", 1)[0])
        if len(body) >= length:
            answer, self._buffer = self._buffer, b""
            self._response.set_result(answer)

    def connection_lost(self, error: Exception | None) -> None:
        if self._response and not self._response.done():
            self._response.set_exception(ConnectionError("the server closed the connection"))

    async def send_request(self, request: bytes) -> bytes:
        """Head and body of the answer. Raises ``ConnectionError``, ``TimeoutError``."""
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
    """One client for each request."""
    begin = asyncio.get_running_loop().time()
    async with asyncio.TaskGroup() as group:
        for request, note in requests:
            group.create_task(_run_client(load, begin + random.uniform(0, load.period), request, note))


async def _run_client(load: LoadProfile, due: float, request: bytes, callback: ResponseCallback) -> None:
    loop = asyncio.get_running_loop()
    measured, end = due + load.warm_up, due + load.warm_up + load.seconds
    _, connection = await loop.create_connection(Connection, load.host, load.port)
    try:
        while due < end:
            await asyncio.sleep(max(0.0, due - loop.time()))
            answer: bytes | Exception
            try:
                answer = await connection.send_request(request)
            except (ConnectionError, TimeoutError) as error:
                answer = error
                connection.close()
                _, connection = await loop.create_connection(Connection, load.host, load.port)
            if due >= measured:
                callback(loop.time() - due, answer)
            due = due + load.period if load.period else loop.time()
    finally:
        connection.close()

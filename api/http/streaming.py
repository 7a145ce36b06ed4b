"""Answers that arrive in pieces: server-sent events of a chat, and verified bytes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import aclosing
from typing import Any, TypeVar

from starlette.concurrency import iterate_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from inference.protocol.errors import EngineError

PING_SECONDS = 5.0
"""Silence after which a comment line tells client and proxies that the answer still comes."""
_AHEAD = 32
"""Chunks that may wait for a slow reader; then the engine waits too."""

Result = TypeVar("Result")
Chunk = dict[str, Any]
_END = object()


class Chunks:
    """Chunks of the engine's stream, read by a task of their own, so that waiting for one can be interrupted."""

    def __init__(self, stream: AsyncIterator[Chunk], ping_seconds: float = PING_SECONDS) -> None:
        self._queue: asyncio.Queue[Any] = asyncio.Queue(_AHEAD)
        self._ping_seconds = ping_seconds
        self._reader = asyncio.create_task(self._read(stream))

    async def first(self) -> Any:
        """What to begin :meth:`events` with; raises the ``EngineError`` that came instead of a chunk.

        Nothing for ``ping_seconds`` is no error: the wait goes on in the events.
        """
        item = await self._next()
        if isinstance(item, EngineError):
            raise item
        return item

    async def events(self, item: Any) -> AsyncIterator[str]:
        """Server-sent events, from ``item`` on."""
        while item is not _END:
            if item is None:
                yield ": ping\n\n"
            elif isinstance(item, EngineError):
                # The status has been sent; the error travels as an event and ends the stream.
                yield _event(item.body())
                return
            else:
                yield _event(item)
            item = await self._next()
        yield "data: [DONE]\n\n"

    async def close(self) -> None:
        """Stop reading, which closes the connection to the engine."""
        self._reader.cancel()
        await asyncio.gather(self._reader, return_exceptions=True)

    async def _read(self, stream: AsyncIterator[Chunk]) -> None:
        try:
            async with aclosing(stream):  # type: ignore[type-var]
                async for chunk in stream:
                    await self._queue.put(chunk)
            await self._queue.put(_END)
        except EngineError as error:
            await self._queue.put(error)

    async def _next(self) -> Any:
        """A chunk, an ``EngineError``, ``_END``, or None when nothing came for a while."""
        try:
            return await asyncio.wait_for(self._queue.get(), self._ping_seconds)
        except TimeoutError:
            if self._reader.done() and self._queue.empty():
                # Whatever ended the reader without a word is a fault of ours.
                self._reader.result()
            return None


class EventStream(StreamingResponse):
    """Lets go of the engine however the response ends, also where the client left before its first byte."""

    media_type = "text/event-stream"

    def __init__(self, chunks: Chunks, first: Any) -> None:
        # Proxies such as nginx would otherwise collect events before passing them on.
        headers = {"cache-control": "no-cache", "x-accel-buffering": "no"}
        super().__init__(chunks.events(first), headers=headers)
        self._chunks = chunks

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._chunks.close()


async def event_stream(request: Request, chunks: Chunks) -> EventStream:
    """Wait for the first chunk, so that a request which cannot be answered gets a status of its own."""
    try:
        first = await while_connected(request, chunks.first())
    except BaseException:
        await chunks.close()
        raise
    return EventStream(chunks, first)


def _event(data: dict[str, Any]) -> str:
    return f"data: {json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(',', ':'))}\n\n"


async def while_connected(request: Request, work: Coroutine[Any, Any, Result]) -> Result:
    """The result of ``work``, which is cancelled when the client leaves. Raises ``ClientDisconnect`` then."""
    task = asyncio.create_task(work)
    gone = asyncio.create_task(_disconnected(request))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientDisconnect
        return task.result()
    finally:
        for each in (task, gone):
            each.cancel()
        await asyncio.gather(task, gone, return_exceptions=True)


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def verified(open_stream: Callable[[], Iterator[bytes]]) -> AsyncIterator[bytes]:
    """A blob's chunks, the last one held back until its hash is known to be right.

    A damaged blob so ends short of its content-length, which every client notices. The first chunk is read before
    this returns: what cannot be opened raises here.
    """
    chunks = iterate_in_threadpool(open_stream())
    first = await anext(chunks, b"")

    async def held_back() -> AsyncIterator[bytes]:
        waiting = first
        async for chunk in chunks:
            yield waiting
            waiting = chunk
        yield waiting

    return held_back()

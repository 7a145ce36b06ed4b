"""Answers that arrive in pieces: server-sent events of a chat, and verified bytes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing
from typing import Any

from starlette.concurrency import iterate_in_threadpool
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from inference.protocol.disconnect import cancel_on_disconnect
from inference.protocol.errors import EngineError

PING_SECONDS = 5.0
"""Silence after which a comment line tells client and proxies that the answer still comes."""
_MAX_BUFFERED_CHUNKS = 32
"""Chunks that may wait for a slow reader; then the engine waits too."""

Chunk = dict[str, Any]
_END_OF_STREAM = object()


class ChunkReader:
    """Chunks of the engine's stream, read by a task of their own, so that waiting for one can be interrupted."""

    def __init__(self, stream: AsyncIterator[Chunk], ping_seconds: float = PING_SECONDS) -> None:
        self._queue: asyncio.Queue[Any] = asyncio.Queue(_MAX_BUFFERED_CHUNKS)
        self._ping_seconds = ping_seconds
        self._reader = asyncio.create_task(self._read(stream))

    async def read_first(self) -> Any:
        """What to begin :meth:`events` with; raises the ``EngineError`` that came instead of a chunk.

        Nothing for ``ping_seconds`` is no error: the wait goes on in the events.
        """
        item = await self._next()
        if isinstance(item, EngineError):
            raise item
        return item

    async def iter_events(self, item: Any) -> AsyncIterator[str]:
        """Server-sent events, from ``item`` on."""
        while item is not _END_OF_STREAM:
            if item is None:
                yield ": ping\n\n"
            elif isinstance(item, EngineError):
                # The status has been sent; the error travels as an event and ends the stream.
                yield _format_event(item.to_body())
                return
            else:
                yield _format_event(item)
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
            await self._queue.put(_END_OF_STREAM)
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


class EventStreamResponse(StreamingResponse):
    """Lets go of the engine however the response ends, also where the client left before its first byte."""

    media_type = "text/event-stream"

    def __init__(self, reader: ChunkReader, first: Any) -> None:
        # Proxies such as nginx would otherwise collect events before passing them on.
        headers = {"cache-control": "no-cache", "x-accel-buffering": "no"}
        super().__init__(reader.iter_events(first), headers=headers)
        self._reader = reader

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._reader.close()


async def open_event_stream(request: Request, reader: ChunkReader) -> EventStreamResponse:
    """Wait for the first chunk, so that a request which cannot be answered gets a status of its own."""
    try:
        first = await cancel_on_disconnect(request, reader.read_first())
    except BaseException:
        await reader.close()
        raise
    return EventStreamResponse(reader, first)


def _format_event(data: dict[str, Any]) -> str:
    return f"data: {json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(',', ':'))}\n\n"


async def verify_stream(open_stream: Callable[[], Iterator[bytes]]) -> AsyncIterator[bytes]:
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

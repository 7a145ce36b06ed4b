"""Streamed responses: server-sent events of a completion, and verified bytes."""

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
"""Silence after which a comment line shows the client and proxies that the stream is alive."""
_MAX_BUFFERED_CHUNKS = 32
"""Chunks buffered for a slow client. When the buffer is full, the engine waits."""

Chunk = dict[str, Any]
_END_OF_STREAM = object()


class ChunkReader:
    """Reader of the engine's stream.

    A separate task reads the chunks, so that waiting for one can time out.
    """

    def __init__(self, stream: AsyncIterator[Chunk], ping_seconds: float = PING_SECONDS) -> None:
        self._queue: asyncio.Queue[Any] = asyncio.Queue(_MAX_BUFFERED_CHUNKS)
        self._ping_seconds = ping_seconds
        self._reader = asyncio.create_task(self._read(stream))

    async def read_first(self) -> Any:
        """Return the first item for :meth:`iter_events`. Raises ``EngineError``.

        Silence for ``ping_seconds`` is no error: the wait continues in the events.
        """
        item = await self._next()
        if isinstance(item, EngineError):
            raise item
        return item

    async def iter_events(self, item: Any) -> AsyncIterator[str]:
        """Yield server-sent events, starting with ``item``."""
        while item is not _END_OF_STREAM:
            if item is None:
                yield ": ping\n\n"
            elif isinstance(item, EngineError):
                # The status has been sent, so the error becomes the last event.
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
        """Return a chunk, an ``EngineError``, ``_END_OF_STREAM``, or None after a silence."""
        try:
            return await asyncio.wait_for(self._queue.get(), self._ping_seconds)
        except TimeoutError:
            if self._reader.done() and self._queue.empty():
                # The reader ended without an item, which is a bug. Raises its exception.
                self._reader.result()
            return None


class EventStreamResponse(StreamingResponse):
    """Event stream that always releases the engine, even if the client disconnects first."""

    media_type = "text/event-stream"

    def __init__(self, reader: ChunkReader, first: Any) -> None:
        # Proxies such as nginx would otherwise buffer the events.
        headers = {"cache-control": "no-cache", "x-accel-buffering": "no"}
        super().__init__(reader.iter_events(first), headers=headers)
        self._reader = reader

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._reader.close()


async def open_event_stream(request: Request, reader: ChunkReader) -> EventStreamResponse:
    """Wait for the first chunk, so that a request that fails gets its own status."""
    try:
        first = await cancel_on_disconnect(request, reader.read_first())
    except BaseException:
        await reader.close()
        raise
    return EventStreamResponse(reader, first)


def _format_event(data: dict[str, Any]) -> str:
    return f"data: {json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(',', ':'))}\n\n"


async def verify_stream(open_stream: Callable[[], Iterator[bytes]]) -> AsyncIterator[bytes]:
    """Yield a blob's chunks, and the last one only after the hash is verified.

    The response with a damaged blob is therefore shorter than its content-length, which every
    client detects. The first chunk is read before this returns, so that a missing blob raises here.
    """
    chunks = iterate_in_threadpool(open_stream())
    first = await anext(chunks, b"")

    async def delay_last() -> AsyncIterator[bytes]:
        pending = first
        async for chunk in chunks:
            yield pending
            pending = chunk
        yield pending

    return delay_last()

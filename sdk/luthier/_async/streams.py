"""Streams of server-sent events."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx

from luthier._async.http import AsyncHTTP
from luthier._concurrency import async_sleep
from luthier._sse import SSEParser
from luthier.errors import to_error

STREAM_TIMEOUT = httpx.Timeout(60.0, connect=5.0)
"""The server sends comments more often than this read timeout."""
RECONNECT_DELAY_SECONDS = 1.0


async def reconnecting_events(http: AsyncHTTP, url: str) -> AsyncIterator[dict[str, Any]]:
    """Yield the events' data until the server sends ``done``.

    After a broken connection, the client reconnects and requests the events after the last one. It
    gives up after ``max_retries`` reconnects without an event.
    """
    last_id, failures = "", 0
    while True:
        headers = {"accept": "text/event-stream"} | ({"last-event-id": last_id} if last_id else {})
        broken: httpx.TransportError | None = None
        try:
            async with http.stream("GET", url, headers=headers, timeout=STREAM_TIMEOUT) as response:
                parser = SSEParser()
                async for line in response.aiter_lines():
                    event = parser.feed(line)
                    if event is None:
                        continue
                    if event.kind == "done":
                        return
                    last_id, failures = event.id, 0
                    yield json.loads(event.data)
        except httpx.TransportError as error:
            broken = error
        failures += 1
        if failures > http.max_retries:
            raise to_error(broken or httpx.ReadError("the stream ended before the job did")) from broken
        await async_sleep(RECONNECT_DELAY_SECONDS)


async def stream_text(http: AsyncHTTP, url: str, body: dict[str, Any]) -> AsyncIterator[str]:
    """Yield the text of a completion in pieces."""
    async with http.stream("POST", url, json={**body, "stream": True}) as response:
        parser = SSEParser()
        async for line in response.aiter_lines():
            event = parser.feed(line)
            if event is None:
                continue
            if event.data == "[DONE]":
                return
            for choice in _raise_for_error(json.loads(event.data), response)["choices"]:
                yield choice["delta"].get("content") or ""


def _raise_for_error(chunk: dict[str, Any], response: httpx.Response) -> dict[str, Any]:
    """Raise ``InternalServerError`` for an error within the stream, which has no status."""
    if "error" in chunk:
        raise to_error(httpx.Response(500, headers=response.headers, json=chunk))
    return chunk

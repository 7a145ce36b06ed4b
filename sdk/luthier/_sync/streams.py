# Made by `make sdk` from _async/streams.py; change that one.
"""Server-sent events that go on where a connection broke."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx

from luthier._sse import Parser
from luthier._sync.http import HTTP
from luthier._waiting import sleep
from luthier.errors import error_of

SILENCE = httpx.Timeout(60.0, connect=5.0)
"""The server sends a comment more often than that."""
AGAIN_SECONDS = 1.0


def followed(http: HTTP, url: str) -> Iterator[dict[str, Any]]:
    """The events' data until the server says ``done``; after a break it is asked for what came after the last one."""
    last, in_vain = "", 0
    while True:
        headers = {"accept": "text/event-stream"} | ({"last-event-id": last} if last else {})
        broken: httpx.TransportError | None = None
        try:
            with http.stream("GET", url, headers=headers, timeout=SILENCE) as response:
                parser = Parser()
                for line in response.iter_lines():
                    event = parser.feed(line)
                    if event is None:
                        continue
                    if event.kind == "done":
                        return
                    last, in_vain = event.id, 0
                    yield json.loads(event.data)
        except httpx.TransportError as error:
            broken = error
        in_vain += 1
        if in_vain > http.max_retries:
            raise error_of(broken or httpx.ReadError("the stream ended before the job")) from broken
        sleep(AGAIN_SECONDS)


def texts(http: HTTP, url: str, body: dict[str, Any]) -> Iterator[str]:
    """What a model writes, piece by piece."""
    with http.stream("POST", url, json={**body, "stream": True}) as response:
        parser = Parser()
        for line in response.iter_lines():
            event = parser.feed(line)
            if event is None:
                continue
            if event.data == "[DONE]":
                return
            for choice in _checked(json.loads(event.data), response)["choices"]:
                yield choice["delta"].get("content") or ""


def _checked(chunk: dict[str, Any], response: httpx.Response) -> dict[str, Any]:
    """An error that comes in the middle has no status of its own left; it counts as the server's."""
    if "error" in chunk:
        raise error_of(httpx.Response(500, headers=response.headers, json=chunk))
    return chunk

"""Limits on the size, duration and encoding of request bodies."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Mapping

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.errors import ContentTooLarge, InvalidRequest, RequestTimeout

MIN_BYTES_PER_SECOND = 16 * 2**10
"""A body that arrives at this rate or faster never times out, even if it is large."""


class BodyLimitMiddleware:
    """Limits bodies while they arrive, before parsing, and rejects malformed requests."""

    def __init__(
        self, app: ASGIApp, default_limit: int, per_path_limits: Mapping[str, int], timeout_seconds: float
    ) -> None:
        """``per_path_limits``: pattern of a full path -> its limit in bytes.

        ``timeout_seconds``: how long to wait for a body, plus one second for every
        ``MIN_BYTES_PER_SECOND`` bytes that arrive.
        """
        self.app = app
        self.default_limit = default_limit
        self.timeout_seconds = timeout_seconds
        self.per_path_limits = [(re.compile(pattern), limit) for pattern, limit in per_path_limits.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        path = scope["path"]
        limit = next((limit for pattern, limit in self.per_path_limits if pattern.fullmatch(path)), self.default_limit)
        reject_malformed(scope, limit)
        size, seconds_left, more_body = 0, self.timeout_seconds, True

        async def receive_limited() -> Message:
            nonlocal size, seconds_left, more_body
            if not more_body:
                # Only the client's disconnect can still arrive.
                return await receive()
            started_at = time.monotonic()
            try:
                async with asyncio.timeout(seconds_left):
                    message = await receive()
            except TimeoutError as error:
                raise RequestTimeout from error
            received_bytes = len(message.get("body", b""))
            # Only the time spent waiting for the client counts, not the time between two reads.
            seconds_left += received_bytes / MIN_BYTES_PER_SECOND - (time.monotonic() - started_at)
            size, more_body = size + received_bytes, message.get("more_body", False)
            if size > limit:
                raise ContentTooLarge(limit)
            return message

        await self.app(scope, receive_limited, send)


def reject_malformed(scope: Scope, limit: int) -> None:
    headers = Headers(scope=scope)
    if "\0" in scope["path"] or b"%00" in scope["query_string"] or b"\0" in scope["query_string"]:
        raise InvalidRequest("The URL contains a NUL character; remove it.")
    if headers.get("content-encoding", "identity").lower() != "identity":
        raise InvalidRequest("Send the body uncompressed, without a content-encoding.")
    length = headers.get("content-length", "0")
    if length.isascii() and length.isdigit() and int(length[:20]) > limit:
        raise ContentTooLarge(limit)

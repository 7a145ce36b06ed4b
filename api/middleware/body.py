"""Limits of request bodies: size, time and encoding."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Mapping

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.errors import ContentTooLarge, InvalidRequest, RequestTimeout

MIN_BYTES_PER_SECOND = 16 * 2**10
"""A body that comes no slower never times out, however large it is."""


class BodyLimitMiddleware:
    """Counts the body while it arrives, before anything parses it, and refuses what no handler should see."""

    def __init__(
        self, app: ASGIApp, default_limit: int, per_path_limits: Mapping[str, int], timeout_seconds: float
    ) -> None:
        """``by_path``: pattern of a whole path -> the bytes that it takes instead of ``default``.

        ``seconds``: how long a body may be waited for, besides a second for each ``BYTES_PER_SECOND`` that arrive.
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
        size, left, more = 0, self.timeout_seconds, True

        async def counted() -> Message:
            nonlocal size, left, more
            if not more:
                # Only the client's leaving is waited for now.
                return await receive()
            began = time.monotonic()
            try:
                async with asyncio.timeout(left):
                    message = await receive()
            except TimeoutError as error:
                raise RequestTimeout from error
            arrived = len(message.get("body", b""))
            # Time in which nobody asks for more of the body is not the client's.
            left += arrived / MIN_BYTES_PER_SECOND - (time.monotonic() - began)
            size, more = size + arrived, message.get("more_body", False)
            if size > limit:
                raise ContentTooLarge(limit)
            return message

        await self.app(scope, counted, send)


def reject_malformed(scope: Scope, limit: int) -> None:
    headers = Headers(scope=scope)
    if "\0" in scope["path"] or b"%00" in scope["query_string"] or b"\0" in scope["query_string"]:
        raise InvalidRequest("The URL has a NUL character.")
    if headers.get("content-encoding", "identity").lower() != "identity":
        raise InvalidRequest("Send the body uncompressed, without a content-encoding.")
    length = headers.get("content-length", "0")
    if length.isascii() and length.isdigit() and int(length[:20]) > limit:
        raise ContentTooLarge(limit)

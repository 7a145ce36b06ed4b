"""What surrounds every route, as plain ASGI; from the outside in ``Answering``, ``Bounded``, ``Keyed``,
:class:`api.limits.Paced`, ``Limited``."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Protocol

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.errors import InvalidRequest, Overloaded, TooLarge, TooSlow, Unauthorized, answer
from storage.access.keys import Principal
from storage.ids import new_id

log = logging.getLogger("luthier.api")

OPENAI_VERSION = "2020-10-01"

BYTES_PER_SECOND = 16 * 2**10
"""A body that comes no slower never times out, however large it is."""


class Answering:
    """Gives every answer its headers, and every exception an answer.

    ``scope["state"]`` has the ``request_id``, and ``headers`` for what is inside to add to.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request_id, began, started = new_id("request"), time.perf_counter(), False
        state = scope.setdefault("state", {})
        state |= {"request_id": request_id, "headers": {}}

        async def headed(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                headers = MutableHeaders(scope=message)
                headers["x-request-id"] = request_id
                headers["openai-processing-ms"] = str(round((time.perf_counter() - began) * 1000))
                headers["openai-version"] = OPENAI_VERSION
                headers.update(state["headers"])
            await send(message)

        try:
            await self.app(scope, receive, headed)
        except ClientDisconnect:
            log.info("%s: the client left before its request was whole", request_id)
        # The edge of the process: what no room translated becomes a 500 in OpenAI's shape.
        except Exception as error:
            if started:
                log.warning("%s: broken off after the answer had begun", request_id)
                raise
            response = answer(error)
            log.info("%s: %s %s answered %d", request_id, scope["method"], scope["path"], response.status_code)
            await response(scope, receive, headed)


class Bounded:
    """Takes so many requests at a time: more would wait for each other and take memory until none is answered."""

    def __init__(self, app: ASGIApp, public: frozenset[str], most: int, apart: Mapping[str, int]) -> None:
        """``public``: paths that are always answered. ``apart``: pattern of a whole path -> requests to such paths that
        are taken at a time; they are not counted among the ``most`` others."""
        self.app = app
        self.public = public
        self.rooms = [(re.compile(pattern), _Room(limit)) for pattern, limit in apart.items()]
        self.others = _Room(most)
        # Made once and not logged: what a refusal takes is missing for those who are answered.
        self.refusal = answer(Overloaded())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in self.public:
            await self.app(scope, receive, send)
            return
        room = next((room for pattern, room in self.rooms if pattern.fullmatch(scope["path"])), self.others)
        if room.taken >= room.places:
            await self.refusal(scope, receive, send)
            return
        room.taken += 1
        try:
            await self.app(scope, receive, send)
        finally:
            room.taken -= 1


@dataclass
class _Room:
    places: int
    taken: int = 0


class Authenticator(Protocol):
    async def __call__(self, scope: Scope, key: str) -> Principal | None: ...


class Keyed:
    """Fails closed: all but the named public paths need a key, routes or not; ``scope["state"]`` keeps whose it is."""

    def __init__(self, app: ASGIApp, public: frozenset[str], authenticate: Authenticator) -> None:
        self.app = app
        self.public = public
        self.authenticate = authenticate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] not in self.public:
            key = presented_key(Headers(scope=scope))
            principal = await self.authenticate(scope, key) if key else None
            if principal is None:
                raise Unauthorized
            state = scope["state"]
            state["principal"] = replace(principal, request_id=state["request_id"])
            state["headers"]["openai-organization"] = principal.organization_id
        await self.app(scope, receive, send)


def presented_key(headers: Headers) -> str | None:
    """From ``Authorization: Bearer`` or ``x-api-key``; None where there is none, or two that differ."""
    keys = set(headers.getlist("x-api-key"))
    for value in headers.getlist("authorization"):
        scheme, _, key = value.partition(" ")
        keys.add(key.strip() if scheme.lower() == "bearer" else "")
    return keys.pop() if len(keys) == 1 else None


class Limited:
    """Counts the body while it arrives, before anything parses it, and refuses what no handler should see."""

    def __init__(self, app: ASGIApp, default: int, by_path: Mapping[str, int], seconds: float) -> None:
        """``by_path``: pattern of a whole path -> the bytes that it takes instead of ``default``.

        ``seconds``: how long a body may be waited for, besides a second for each ``BYTES_PER_SECOND`` that arrive.
        """
        self.app = app
        self.default = default
        self.seconds = seconds
        self.by_path = [(re.compile(pattern), limit) for pattern, limit in by_path.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        path = scope["path"]
        limit = next((limit for pattern, limit in self.by_path if pattern.fullmatch(path)), self.default)
        _refuse_oddities(scope, limit)
        size, left, more = 0, self.seconds, True

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
                raise TooSlow from error
            arrived = len(message.get("body", b""))
            # Time in which nobody asks for more of the body is not the client's.
            left += arrived / BYTES_PER_SECOND - (time.monotonic() - began)
            size, more = size + arrived, message.get("more_body", False)
            if size > limit:
                raise TooLarge(limit)
            return message

        await self.app(scope, counted, send)


def _refuse_oddities(scope: Scope, limit: int) -> None:
    headers = Headers(scope=scope)
    if "\0" in scope["path"] or b"%00" in scope["query_string"] or b"\0" in scope["query_string"]:
        raise InvalidRequest("The URL has a NUL character.")
    if headers.get("content-encoding", "identity").lower() != "identity":
        raise InvalidRequest("Send the body uncompressed, without a content-encoding.")
    length = headers.get("content-length", "0")
    if length.isascii() and length.isdigit() and int(length[:20]) > limit:
        raise TooLarge(limit)

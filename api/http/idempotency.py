"""A request that is sent again is answered again, and done once.

With an ``Idempotency-Key`` that holds for every ``POST`` with a JSON body and for files, for a day. OpenAI's clients
send none: they say ``x-stainless-retry-count``, so of a request that makes something the answer is kept for ten
minutes, and a retry of it by the same key gets that answer. Streams are not kept, and parts of uploads may be sent
twice anyway.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Awaitable, Callable
from typing import Protocol

from pydantic import BaseModel
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.requests import Request
from starlette.responses import Response

from api.errors import InProgress, InvalidRequest
from storage import idempotency
from storage.access.keys import Principal
from storage.db import Database
from storage.idempotency import Answer, Busy, Reused, Ticket

RETRY_SECONDS = 600.0
MAX_KEY = 255
_REPLAYED = "idempotent-replayed"

Handler = Callable[[Request], Awaitable[Response]]


class AlreadyDone(Exception):
    """The same request was done meanwhile; the transaction in which this is raised is undone."""


class Once(Protocol):
    """What a route that makes something asks for."""

    async def record(self, session: AsyncSession, out: BaseModel) -> None:
        """Call it in the transaction that makes the thing, with what will be answered."""


class Unkept:
    """Of a request that need not be known again."""

    async def keep(self, session: AsyncSession, out: BaseModel) -> None:
        pass


class Taken:
    """Of a request with an ``Idempotency-Key``."""

    def __init__(self, held: Ticket) -> None:
        self._held = held

    async def keep(self, session: AsyncSession, out: BaseModel) -> None:
        if not await idempotency.answered(session, self._held, Answer(200, out.model_dump_json())):
            raise AlreadyDone


class Retryable:
    """Of a request of an SDK: the first one replaces what was there, a retry gives way to it."""

    def __init__(self, wanted: Ticket, seconds: float) -> None:
        self._wanted = wanted
        self._seconds = seconds

    async def keep(self, session: AsyncSession, out: BaseModel) -> None:
        if not await idempotency.keep(session, self._wanted, Answer(200, out.model_dump_json()), self._seconds):
            raise AlreadyDone


async def once_of(request: Request) -> Once:
    once: Once = request.state.once
    return once


async def once_only(request: Request, handler: Handler) -> Response:
    """The handler's response, or that of the same request before. Raises ``InvalidRequest``, ``InProgress``."""
    request.state.once = Unkept()
    if request.method != "POST" or request.headers.get("content-type", "").startswith("multipart/"):
        return await handler(request)
    return await _once(request, handler, request.body)


async def once_only_form(request: Request, handler: Handler, *sent: object) -> Response:
    """The same for a multipart body, whose boundary differs from try to try: ``sent`` is what it says."""

    async def content() -> bytes:
        return json.dumps(sent).encode()

    return await _once(request, handler, content)


async def _once(request: Request, handler: Handler, content: Callable[[], Awaitable[bytes]]) -> Response:
    key, retries = request.headers.get("idempotency-key"), request.headers.get("x-stainless-retry-count", "")
    principal: Principal = request.state.principal
    db: Database = request.app.state.rooms.db
    if key is not None:
        if not (1 <= len(key) <= MAX_KEY and key.isascii() and key.isprintable()):
            raise InvalidRequest(f"An Idempotency-Key has 1 to {MAX_KEY} printable ASCII characters.")
        fingerprint = _fingerprint(request, await content(), principal.role)
        return await _by_key(request, handler, db, idempotency.ticket(principal.project_id, f"key:{key}", fingerprint))
    if retries.isascii() and retries.isdigit():
        fingerprint = _fingerprint(request, await content(), principal.role, principal.key_id)
        wanted = idempotency.ticket(principal.project_id, f"retry:{fingerprint}", fingerprint)
        return await _by_count(request, handler, db, wanted, retry=int(retries[:4]) > 0)
    return await handler(request)


async def _by_key(request: Request, handler: Handler, db: Database, wanted: Ticket) -> Response:
    try:
        async with db.write() as session:
            earlier = await idempotency.take(session, wanted)
    except Reused:
        raise InvalidRequest(
            "This Idempotency-Key was used for another request; make a new key for each request.",
            code="idempotency_key_reused",
        ) from None
    except Busy:
        raise InProgress from None
    if earlier:
        return _replayed(earlier)
    request.state.once = Taken(wanted)
    try:
        response = await handler(request)
    except AlreadyDone:
        raise InProgress from None
    except BaseException:
        async with db.write() as session:
            await idempotency.released(session, wanted)
        raise
    async with db.write() as session:
        if _keepable(response):
            await idempotency.answered(session, wanted, Answer(response.status_code, bytes(response.body).decode()))
        else:
            await idempotency.released(session, wanted)
    return response


def _keepable(response: Response) -> bool:
    """Who was refused may ask again, a stream has no body yet, and a secret is written nowhere."""
    done = 200 <= response.status_code < 300 and isinstance(getattr(response, "body", None), bytes)
    return done and response.headers.get("cache-control") != "no-store"


async def _by_count(request: Request, handler: Handler, db: Database, wanted: Ticket, retry: bool) -> Response:
    if retry and (earlier := await _kept(db, wanted)):
        return _replayed(earlier)
    request.state.once = Retryable(wanted, RETRY_SECONDS if retry else 0.0)
    try:
        return await handler(request)
    except AlreadyDone:
        earlier = await _kept(db, wanted)
        if earlier is None:
            raise InProgress from None
        return _replayed(earlier)


async def _kept(db: Database, wanted: Ticket) -> Answer | None:
    async with db.read() as session:
        return await idempotency.kept(session, wanted, RETRY_SECONDS)


def _fingerprint(request: Request, content: bytes, *who: str) -> str:
    """Of everything that decides what a request does. The role is in it: nobody is answered what he may not ask."""
    words = [*who, request.method, request.url.path, request.url.query]
    digest = hashlib.sha256("\n".join(words).encode("utf-8", "surrogateescape"))
    digest.update(b"\n" + content)
    return digest.hexdigest()


def is_replayed(response: Response) -> bool:
    """Whether this is an earlier request's answer."""
    return _REPLAYED in response.headers


def _replayed(answer: Answer) -> Response:
    return Response(answer.body, answer.status, {_REPLAYED: "true"}, media_type="application/json")

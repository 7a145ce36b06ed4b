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

from api.errors import InvalidRequest, RequestInProgress
from storage import idempotency
from storage.access.keys import Principal
from storage.db import Database
from storage.idempotency import KeyInUse, KeyReused, StoredResponse, Ticket

RETRY_WINDOW_SECONDS = 600.0
MAX_KEY_LENGTH = 255
_REPLAYED_HEADER = "idempotent-replayed"

Handler = Callable[[Request], Awaitable[Response]]


class DuplicateRequest(Exception):
    """The same request was done meanwhile; the transaction in which this is raised is undone."""


class ResponseRecorder(Protocol):
    """What a route that makes something asks for."""

    async def record(self, session: AsyncSession, out: BaseModel) -> None:
        """Call it in the transaction that makes the thing, with what will be answered."""


class NullRecorder:
    """Of a request that need not be known again."""

    async def record(self, session: AsyncSession, out: BaseModel) -> None:
        pass


class KeyRecorder:
    """Of a request with an ``Idempotency-Key``."""

    def __init__(self, ticket: Ticket) -> None:
        self._ticket = ticket

    async def record(self, session: AsyncSession, out: BaseModel) -> None:
        if not await idempotency.complete(session, self._ticket, StoredResponse(200, out.model_dump_json())):
            raise DuplicateRequest


class RetryRecorder:
    """Of a request of an SDK: the first one replaces what was there, a retry gives way to it."""

    def __init__(self, ticket: Ticket, window_seconds: float) -> None:
        self._ticket = ticket
        self._window_seconds = window_seconds

    async def record(self, session: AsyncSession, out: BaseModel) -> None:
        if not await idempotency.store(
            session, self._ticket, StoredResponse(200, out.model_dump_json()), self._window_seconds
        ):
            raise DuplicateRequest


async def get_response_recorder(request: Request) -> ResponseRecorder:
    once: ResponseRecorder = request.state.response_recorder
    return once


async def run_idempotent(request: Request, handler: Handler) -> Response:
    """The handler's response, or that of the same request before. Raises ``InvalidRequest``, ``InProgress``."""
    request.state.response_recorder = NullRecorder()
    if request.method != "POST" or request.headers.get("content-type", "").startswith("multipart/"):
        return await handler(request)
    return await _run_or_replay(request, handler, request.body)


async def run_idempotent_form(request: Request, handler: Handler, *fields: object) -> Response:
    """The same for a multipart body, whose boundary differs from try to try: ``sent`` is what it says."""

    async def content() -> bytes:
        return json.dumps(fields).encode()

    return await _run_or_replay(request, handler, content)


async def _run_or_replay(request: Request, handler: Handler, read_content: Callable[[], Awaitable[bytes]]) -> Response:
    key, retries = request.headers.get("idempotency-key"), request.headers.get("x-stainless-retry-count", "")
    principal: Principal = request.state.principal
    db: Database = request.app.state.resources.db
    if key is not None:
        if not (1 <= len(key) <= MAX_KEY_LENGTH and key.isascii() and key.isprintable()):
            raise InvalidRequest(f"An Idempotency-Key has 1 to {MAX_KEY_LENGTH} printable ASCII characters.")
        fingerprint = _compute_fingerprint(request, await read_content(), principal.role)
        return await _run_with_key(
            request, handler, db, idempotency.new_ticket(principal.project_id, f"key:{key}", fingerprint)
        )
    if retries.isascii() and retries.isdigit():
        fingerprint = _compute_fingerprint(request, await read_content(), principal.role, principal.key_id)
        wanted = idempotency.new_ticket(principal.project_id, f"retry:{fingerprint}", fingerprint)
        return await _run_with_retry_count(request, handler, db, wanted, is_retry=int(retries[:4]) > 0)
    return await handler(request)


async def _run_with_key(request: Request, handler: Handler, db: Database, ticket: Ticket) -> Response:
    try:
        async with db.write() as session:
            earlier = await idempotency.claim(session, ticket)
    except KeyReused:
        raise InvalidRequest(
            "This Idempotency-Key was used for another request; make a new key for each request.",
            code="idempotency_key_reused",
        ) from None
    except KeyInUse:
        raise RequestInProgress from None
    if earlier:
        return _replay(earlier)
    request.state.response_recorder = KeyRecorder(ticket)
    try:
        response = await handler(request)
    except DuplicateRequest:
        raise RequestInProgress from None
    except BaseException:
        async with db.write() as session:
            await idempotency.release(session, ticket)
        raise
    async with db.write() as session:
        if _is_replayable(response):
            await idempotency.complete(
                session, ticket, StoredResponse(response.status_code, bytes(response.body).decode())
            )
        else:
            await idempotency.release(session, ticket)
    return response


def _is_replayable(response: Response) -> bool:
    """Who was refused may ask again, a stream has no body yet, and a secret is written nowhere."""
    done = 200 <= response.status_code < 300 and isinstance(getattr(response, "body", None), bytes)
    return done and response.headers.get("cache-control") != "no-store"


async def _run_with_retry_count(
    request: Request, handler: Handler, db: Database, ticket: Ticket, is_retry: bool
) -> Response:
    if is_retry and (earlier := await _load_response(db, ticket)):
        return _replay(earlier)
    request.state.response_recorder = RetryRecorder(ticket, RETRY_WINDOW_SECONDS if is_retry else 0.0)
    try:
        return await handler(request)
    except DuplicateRequest:
        earlier = await _load_response(db, ticket)
        if earlier is None:
            raise RequestInProgress from None
        return _replay(earlier)


async def _load_response(db: Database, ticket: Ticket) -> StoredResponse | None:
    async with db.read() as session:
        return await idempotency.load(session, ticket, RETRY_WINDOW_SECONDS)


def _compute_fingerprint(request: Request, content: bytes, *identity: str) -> str:
    """Of everything that decides what a request does. The role is in it: nobody is answered what he may not ask."""
    words = [*identity, request.method, request.url.path, request.url.query]
    digest = hashlib.sha256("\n".join(words).encode("utf-8", "surrogateescape"))
    digest.update(b"\n" + content)
    return digest.hexdigest()


def is_replayed(response: Response) -> bool:
    """Whether this is an earlier request's answer."""
    return _REPLAYED_HEADER in response.headers


def _replay(stored: StoredResponse) -> Response:
    return Response(stored.body, stored.status, {_REPLAYED_HEADER: "true"}, media_type="application/json")

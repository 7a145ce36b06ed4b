"""Idempotent requests: a repeated request takes effect once and gets the first response again.

- With an ``Idempotency-Key``, this holds for one day, for every ``POST`` with a JSON body and for
  files.
- OpenAI's clients send ``x-stainless-retry-count`` instead. For requests that create something, the
  response is stored for ten minutes, and a retry with the same API key gets it.
- Streams are not stored. Parts of uploads may be sent twice.
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
from storage.idempotency import KeyInUse, KeyReused, RequestClaim, StoredResponse

RETRY_WINDOW_SECONDS = 600.0
MAX_KEY_LENGTH = 255
_REPLAYED_HEADER = "idempotent-replayed"

Handler = Callable[[Request], Awaitable[Response]]


class DuplicateRequest(Exception):
    """A concurrent request with the same content succeeded first.

    The transaction that raises this rolls back.
    """


class ResponseRecorder(Protocol):
    """Storage for the response of a route that creates something."""

    async def record(self, session: AsyncSession, out: BaseModel) -> None:
        """Store the response ``out``. Call it in the transaction that creates the object."""


class NullRecorder:
    """Recorder for requests that are not idempotent; stores nothing."""

    async def record(self, session: AsyncSession, out: BaseModel) -> None:
        pass


class KeyRecorder:
    """Recorder for requests with an ``Idempotency-Key``."""

    def __init__(self, ticket: RequestClaim) -> None:
        self._ticket = ticket

    async def record(self, session: AsyncSession, out: BaseModel) -> None:
        if not await idempotency.complete(session, self._ticket, StoredResponse(200, out.model_dump_json())):
            raise DuplicateRequest


class RetryRecorder:
    """Recorder for requests of OpenAI's clients.

    A first request replaces a stored response. A retry raises ``DuplicateRequest`` if there is one.
    """

    def __init__(self, ticket: RequestClaim, window_seconds: float) -> None:
        self._ticket = ticket
        self._window_seconds = window_seconds

    async def record(self, session: AsyncSession, out: BaseModel) -> None:
        if not await idempotency.store(
            session, self._ticket, StoredResponse(200, out.model_dump_json()), self._window_seconds
        ):
            raise DuplicateRequest


async def get_response_recorder(request: Request) -> ResponseRecorder:
    recorder: ResponseRecorder = request.state.response_recorder
    return recorder


async def run_idempotent(request: Request, handler: Handler) -> Response:
    """Return the handler's response, or the stored response of an earlier identical request.

    Raises ``InvalidRequest``, ``RequestInProgress``.
    """
    request.state.response_recorder = NullRecorder()
    if request.method != "POST" or request.headers.get("content-type", "").startswith("multipart/"):
        return await handler(request)
    return await _run_or_replay(request, handler, request.body)


async def run_idempotent_form(request: Request, handler: Handler, *fields: object) -> Response:
    """Do the same for a multipart body.

    ``fields``: the content that identifies the request, because the boundary differs between
    retries.
    """

    async def content() -> bytes:
        return json.dumps(fields).encode()

    return await _run_or_replay(request, handler, content)


async def _run_or_replay(request: Request, handler: Handler, read_content: Callable[[], Awaitable[bytes]]) -> Response:
    key, retries = request.headers.get("idempotency-key"), request.headers.get("x-stainless-retry-count", "")
    principal: Principal = request.state.principal
    db: Database = request.app.state.resources.db
    if key is not None:
        if not (1 <= len(key) <= MAX_KEY_LENGTH and key.isascii() and key.isprintable()):
            raise InvalidRequest(f"An Idempotency-Key must have 1 to {MAX_KEY_LENGTH} printable ASCII characters.")
        fingerprint = _compute_fingerprint(request, await read_content(), principal.role)
        return await _run_with_key(
            request, handler, db, idempotency.new_ticket(principal.project_id, f"key:{key}", fingerprint)
        )
    if retries.isascii() and retries.isdigit():
        fingerprint = _compute_fingerprint(request, await read_content(), principal.role, principal.key_id)
        ticket = idempotency.new_ticket(principal.project_id, f"retry:{fingerprint}", fingerprint)
        return await _run_with_retry_count(request, handler, db, ticket, is_retry=int(retries[:4]) > 0)
    return await handler(request)


async def _run_with_key(request: Request, handler: Handler, db: Database, ticket: RequestClaim) -> Response:
    try:
        async with db.write() as session:
            earlier = await idempotency.claim(session, ticket)
    except KeyReused:
        raise InvalidRequest(
            "This Idempotency-Key was used for another request; send a new key with each request.",
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
    """Return True for complete successes without secrets.

    Rejected requests may be retried with the same key.
    """
    is_complete = 200 <= response.status_code < 300 and isinstance(getattr(response, "body", None), bytes)
    return is_complete and response.headers.get("cache-control") != "no-store"


async def _run_with_retry_count(
    request: Request, handler: Handler, db: Database, ticket: RequestClaim, is_retry: bool
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


async def _load_response(db: Database, ticket: RequestClaim) -> StoredResponse | None:
    async with db.read() as session:
        return await idempotency.load(session, ticket, RETRY_WINDOW_SECONDS)


def _compute_fingerprint(request: Request, content: bytes, *identity: str) -> str:
    """Hash everything that determines the effect of a request.

    The role is included, so that a replay never bypasses a permission.
    """
    lines = [*identity, request.method, request.url.path, request.url.query]
    digest = hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape"))
    digest.update(b"\n" + content)
    return digest.hexdigest()


def is_replayed(response: Response) -> bool:
    """Return True for the stored response of an earlier request."""
    return _REPLAYED_HEADER in response.headers


def _replay(stored: StoredResponse) -> Response:
    return Response(stored.body, stored.status, {_REPLAYED_HEADER: "true"}, media_type="application/json")

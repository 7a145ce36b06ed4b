"""Strict JSON bodies, with the same rules as rows of datasets.

JSON that parsers interpret differently, or that a database cannot store, is rejected with 400.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response

from api.errors import InvalidRequest
from api.http.idempotency import run_idempotent
from training.readers.strict_json import InvalidInput, decode


def loads(data: bytes) -> Any:
    """Parse a JSON body. Raises ``InvalidRequest``."""
    try:
        return decode(data.decode("utf-8"))
    except UnicodeDecodeError:
        reason = "it is not UTF-8."
    except InvalidInput as error:
        reason = error.message
    raise InvalidRequest(f"The body is not valid JSON for this server: {reason}", code="invalid_json")


class StrictRequest(Request):
    """Request with a strict JSON parser."""

    async def json(self) -> Any:
        return loads(await self.body())


class StrictRoute(APIRoute):
    """Route class of every router under ``/v1``, with strict JSON bodies and idempotent requests.

    See :mod:`api.http.idempotency`.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler = super().get_route_handler()

        async def handle(request: Request) -> Response:
            return await run_idempotent(StrictRequest(request.scope, request.receive), handler)

        return handle

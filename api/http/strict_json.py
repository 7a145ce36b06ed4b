"""JSON bodies, read as strictly as rows: what two parsers read in two ways, or no database can store, is a 400."""

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
    """Raises ``InvalidRequest``."""
    try:
        return decode(data.decode("utf-8"))
    except UnicodeDecodeError:
        reason = "it is not UTF-8."
    except InvalidInput as error:
        reason = error.message
    raise InvalidRequest(f"The body is not the JSON that this server takes: {reason}", code="invalid_json")


class StrictRequest(Request):
    async def json(self) -> Any:
        return loads(await self.body())


class StrictRoute(APIRoute):
    """The route class of every router under ``/v1``: FastAPI asks its request for the body's JSON, and nothing is done
    twice (:mod:`api.http.idempotency`)."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler = super().get_route_handler()

        async def strict(request: Request) -> Response:
            return await run_idempotent(StrictRequest(request.scope, request.receive), handler)

        return strict

"""Conversion of exceptions to responses.

Every error that leaves the API passes through :func:`to_response`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Match

from api.errors import (
    ApiError,
    InternalError,
    InvalidRequest,
    MethodNotAllowed,
    NotFound,
    ServiceUnavailable,
    to_invalid_request,
)
from inference.protocol.errors import EngineError, EngineUnavailable
from inference.protocol.validation import to_validation_issue
from jobs.lifecycle.transitions import IllegalTransition
from storage.errors import ModelNotPulled, StorageUnavailable

log = logging.getLogger("luthier.api")


def _handle_engine_error(error: EngineError) -> Response:
    if isinstance(error, EngineUnavailable):
        return ServiceUnavailable(error.message, code=error.code, retry_after=error.retry_after).to_response()
    if error.code == "unauthorized":
        # The engine rejected the API's token, not the client's key.
        return _handle_unexpected(error)
    return JSONResponse(error.to_body(), error.status)


def _handle_http_exception(error: HTTPException) -> Response:
    """Convert errors of Starlette and FastAPI: unknown path, unsupported method, unreadable
    body."""
    if error.status_code == 404:
        return NotFound("This URL does not exist; check its spelling.", code="unknown_url").to_response()
    if error.status_code == 405:
        return MethodNotAllowed(
            "This URL does not support this method; use one from the Allow header.", headers=error.headers
        ).to_response()
    if error.status_code == 400:
        return InvalidRequest("The body could not be read; send a body that matches the content-type.").to_response()
    return _handle_unexpected(error)


def _handle_unexpected(error: Exception) -> Response:
    log.error("a request failed", exc_info=error)
    return InternalError().to_response()


_HANDLERS: dict[type[Exception], Callable[[Any], Response]] = {
    ApiError: lambda error: error.to_response(),
    HTTPException: _handle_http_exception,
    RequestValidationError: lambda error: to_invalid_request(
        to_validation_issue(error.errors(), error.body)
    ).to_response(),
    EngineError: _handle_engine_error,
    StorageUnavailable: lambda _: ServiceUnavailable("The storage is unavailable; try again shortly.").to_response(),
    ModelNotPulled: lambda error: InvalidRequest(
        str(error), param="model", code="base_model_unavailable"
    ).to_response(),
    IllegalTransition: lambda error: InvalidRequest(
        str(error), code="invalid_state", headers={"x-should-retry": "false"}
    ).to_response(),
}


def to_response(error: Exception) -> Response:
    """Convert an exception with the handler of its nearest class.

    Others become a 500 without details.
    """
    for error_class in type(error).__mro__:
        if error_class in _HANDLERS:
            return _HANDLERS[error_class](error)
    return _handle_unexpected(error)


async def handle_exception(request: Request, error: Exception) -> Response:
    """Convert an exception as FastAPI's handler, and add the ``Allow`` header to a 405."""
    response = to_response(error)
    if response.status_code == MethodNotAllowed.status:
        response.headers["allow"] = ", ".join(_list_allowed_methods(request))
    return response


def _list_allowed_methods(request: Request) -> list[str]:
    """Return the methods of all routes of the path.

    Starlette's ``Allow`` names only those of the first.
    """
    scopes = {method: {**request.scope, "method": method} for method in ("GET", "POST", "PUT", "PATCH", "DELETE")}
    routes = request.app.routes
    return [name for name, scope in scopes.items() if any(route.matches(scope)[0] is Match.FULL for route in routes)]

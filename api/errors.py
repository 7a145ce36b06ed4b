"""What a client is told when a request cannot be answered, in OpenAI's shape.

ApiError
├── InvalidRequest      400  the request is wrong; ``param`` names the field and the message says what to change
├── Unauthorized        401  no key, or none that is in force
├── Forbidden           403  the key is good, the thing is not the client's to change
├── NotFound            404  no such thing, or another project's: nobody can tell which
├── WrongMethod         405  the path exists, the method does not
├── TooSlow             408  the body did not arrive in time; the connection is closed
├── InProgress          409  the same request, by its Idempotency-Key, is still being worked on
├── TooLarge            413  the body is larger than this server takes
├── RateLimited         429  the project has asked for more in a minute than it may
├── InternalError       500  a fault of ours; details are in the log under the request id
└── Unavailable         503  a part of the service does not answer; ``Retry-After`` says when to try again
    └── Overloaded      503  this process has as many requests as it takes

Every error that leaves the API passes :func:`answer`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Match

from inference.protocol.errors import EngineError, EngineUnavailable
from inference.protocol.validation import ValidationIssue, to_validation_issue
from jobs.lifecycle.transitions import IllegalTransition
from storage.errors import ModelNotPulled, StorageUnavailable

log = logging.getLogger("luthier.api")

RETRY_AFTER_SECONDS = 2

ErrorType = Literal["invalid_request_error", "permission_error", "requests", "tokens", "server_error"]


class ErrorBody(BaseModel):
    """What went wrong."""

    message: str
    type: ErrorType
    param: str | None
    code: str | None


class ErrorOut(BaseModel):
    """The body of every answer that is not a success."""

    error: ErrorBody


class ApiError(HTTPException):
    """Root of the family. An ``HTTPException``: FastAPI replaces others that are raised while it reads a body."""

    status: ClassVar[int]
    type: ClassVar[ErrorType] = "invalid_request_error"
    default_code: ClassVar[str | None] = None

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(self.status, message, dict(headers or {}))
        self.param = param
        self.code = code or self.default_code

    def to_response(self) -> JSONResponse:
        error = ErrorBody(message=self.detail, type=self.type, param=self.param, code=self.code)
        return JSONResponse(ErrorOut(error=error).model_dump(), self.status_code, self.headers)


class InvalidRequest(ApiError):
    """The request is wrong."""

    status = 400
    default_code = "invalid_value"


class Unauthorized(ApiError):
    """No key, or none that is in force."""

    status = 401
    default_code = "invalid_api_key"

    def __init__(self) -> None:
        # One answer for a missing, an unknown and a revoked key.
        super().__init__(
            "A key of this Luthier is needed: send it as 'Authorization: Bearer sk-luthier-…'.",
            headers={"www-authenticate": "Bearer"},
        )


class Forbidden(ApiError):
    """The thing is not the client's to change."""

    status = 403
    type = "permission_error"


class NotFound(ApiError):
    """No such thing in this project."""

    status = 404


class MethodNotAllowed(ApiError):
    """The path exists, the method does not."""

    status = 405
    default_code = "method_not_allowed"


class RequestTimeout(ApiError):
    """The body did not arrive in time."""

    status = 408
    default_code = "request_timeout"

    def __init__(self) -> None:
        super().__init__(
            "The body did not arrive in time; send it again, faster.",
            # What is still on its way must not be taken for the next request.
            headers={"connection": "close"},
        )


class RequestInProgress(ApiError):
    """The same request, by its ``Idempotency-Key``, is still being worked on."""

    status = 409
    default_code = "request_in_progress"

    def __init__(self) -> None:
        super().__init__(
            "The first request with this Idempotency-Key is still being worked on; ask again for its answer.",
            headers={"retry-after": "1"},
        )


class ContentTooLarge(ApiError):
    """The body is larger than this server takes."""

    status = 413
    default_code = "request_too_large"

    def __init__(self, limit: int) -> None:
        super().__init__(f"The request is larger than the {limit:,} bytes that this server takes.")


class RateLimited(ApiError):
    """The project has asked for more in a minute than it may."""

    status = 429
    default_code = "rate_limit_exceeded"

    def __init__(self, kind: Literal["requests", "tokens"], limit: int, wait_ms: int) -> None:
        seconds = -(-wait_ms // 1000)
        super().__init__(
            f"The project may use {limit:,} {kind} a minute and has; try again in {wait_ms / 1000:.3g} s.",
            headers={"retry-after": str(seconds), "retry-after-ms": str(wait_ms)},
        )
        self.kind = kind

    def to_response(self) -> JSONResponse:
        error = ErrorBody(message=self.detail, type=self.kind, param=None, code=self.code)
        return JSONResponse(ErrorOut(error=error).model_dump(), self.status_code, self.headers)


class InternalError(ApiError):
    """A fault of ours."""

    status = 500
    type = "server_error"
    default_code = "internal_error"

    def __init__(self) -> None:
        super().__init__("The server failed on this request; its log has the cause under the x-request-id.")


class ServiceUnavailable(ApiError):
    """A part of the service does not answer."""

    status = 503
    type = "server_error"
    default_code = "unavailable"

    def __init__(self, message: str, *, code: str | None = None, retry_after: int = RETRY_AFTER_SECONDS) -> None:
        super().__init__(message, code=code, headers={"retry-after": str(retry_after)})


class Overloaded(ServiceUnavailable):
    """This process has as many requests as it takes."""

    default_code = "overloaded"

    def __init__(self) -> None:
        super().__init__("The server has as many requests as it can take; try again shortly.")


ERROR_CLASSES: tuple[type[ApiError], ...] = (
    InvalidRequest,
    Unauthorized,
    Forbidden,
    NotFound,
    MethodNotAllowed,
    RequestTimeout,
    RequestInProgress,
    ContentTooLarge,
    RateLimited,
    InternalError,
    ServiceUnavailable,
)


def error_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The error part of a route's ``responses`` in the OpenAPI document; without statuses, those of any route."""
    shown = {400, 401, 429, 500, 503, *statuses}
    texts = {error.status: error.__doc__ for error in ERROR_CLASSES}
    by_status: dict[int | str, dict[str, Any]] = {
        status: {"model": ErrorOut, "description": texts[status]} for status in sorted(shown)
    }
    return by_status | {"default": {"model": ErrorOut, "description": "Any other error."}}


def to_invalid_request(issue: ValidationIssue) -> InvalidRequest:
    return InvalidRequest(issue.message, param=issue.param, code=issue.code)


def _handle_engine_error(error: EngineError) -> Response:
    if isinstance(error, EngineUnavailable):
        return ServiceUnavailable(error.message, code=error.code, retry_after=error.retry_after).to_response()
    if error.code == "unauthorized":
        # The engine refused our token, not the client's key.
        return _handle_unexpected(error)
    return JSONResponse(error.to_body(), error.status)


def _handle_http_exception(error: HTTPException) -> Response:
    """What Starlette and FastAPI raise themselves: no route, wrong method, an unreadable body."""
    if error.status_code == 404:
        return NotFound("There is no such URL; look for a typing error in it.", code="unknown_url").to_response()
    if error.status_code == 405:
        return MethodNotAllowed("This URL does not take this method.", headers=error.headers).to_response()
    if error.status_code == 400:
        return InvalidRequest("The body could not be read; send what the content-type says.").to_response()
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
    StorageUnavailable: lambda _: ServiceUnavailable("The storage does not answer; try again shortly.").to_response(),
    ModelNotPulled: lambda error: InvalidRequest(
        str(error), param="model", code="base_model_unavailable"
    ).to_response(),
    IllegalTransition: lambda error: InvalidRequest(
        str(error), code="invalid_state", headers={"x-should-retry": "false"}
    ).to_response(),
}


def to_response(error: Exception) -> Response:
    """The response for an exception, by the nearest of its classes that the table has; 500 without details else."""
    for kind in type(error).__mro__:
        if kind in _HANDLERS:
            return _HANDLERS[kind](error)
    return _handle_unexpected(error)


async def handle_exception(request: Request, error: Exception) -> Response:
    """:func:`answer` in the form that FastAPI registers."""
    response = to_response(error)
    if response.status_code == MethodNotAllowed.status:
        response.headers["allow"] = ", ".join(_list_allowed_methods(request))
    return response


def _list_allowed_methods(request: Request) -> list[str]:
    """Starlette's own ``Allow`` names the methods of the first route of a path only."""
    scopes = {method: {**request.scope, "method": method} for method in ("GET", "POST", "PUT", "PATCH", "DELETE")}
    routes = request.app.routes
    return [name for name, scope in scopes.items() if any(r.matches(scope)[0] is Match.FULL for r in routes)]

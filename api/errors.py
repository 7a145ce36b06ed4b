"""Errors of the API, in OpenAI's format.

ApiError
├── InvalidRequest        400  the request is invalid; ``param`` names the field to change
├── Unauthorized          401  the key is missing or not valid
├── Forbidden             403  the key is valid, but it may not do this
├── NotFound              404  the object does not exist, or it belongs to another project
├── MethodNotAllowed      405  the path exists, but does not support the method
├── RequestTimeout        408  the body did not arrive in time; the connection is closed
├── RequestInProgress     409  a request with the same ``Idempotency-Key`` is in progress
├── ContentTooLarge       413  the body exceeds the server's limit
├── RateLimited           429  the project has exceeded its limit per minute
├── InternalError         500  a bug in the server; its log has the details under the request id
└── ServiceUnavailable    503  a needed service is unavailable; ``Retry-After`` says when to retry
    └── Overloaded        503  this process is at its limit of concurrent requests

A 404 does not reveal whether the object exists in another project. Messages say what to change.
:mod:`api.exception_handlers` converts every exception to a response.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from inference.protocol.validation import ValidationIssue

RETRY_AFTER_SECONDS = 2

ErrorType = Literal["invalid_request_error", "permission_error", "requests", "tokens", "server_error"]


class ErrorBody(BaseModel):
    """Details of an error."""

    message: str
    type: ErrorType
    param: str | None
    code: str | None


class ErrorOut(BaseModel):
    """The body of every error response."""

    error: ErrorBody


class ApiError(HTTPException):
    """Base class of the API's errors.

    It is an ``HTTPException``, because FastAPI replaces other exceptions that occur while it reads
    a body.
    """

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
    """The request is invalid."""

    status = 400
    default_code = "invalid_value"


class Unauthorized(ApiError):
    """The key is missing or not valid."""

    status = 401
    default_code = "invalid_api_key"

    def __init__(self) -> None:
        # The same response for a missing, an unknown and a revoked key.
        super().__init__(
            "A valid API key is required; send it as 'Authorization: Bearer sk-luthier-…'.",
            headers={"www-authenticate": "Bearer"},
        )


class Forbidden(ApiError):
    """The key's role or the object does not allow this."""

    status = 403
    type = "permission_error"


class NotFound(ApiError):
    """The object does not exist in this project."""

    status = 404


class MethodNotAllowed(ApiError):
    """The path does not support this method."""

    status = 405
    default_code = "method_not_allowed"


class RequestTimeout(ApiError):
    """The request body did not arrive in time."""

    status = 408
    default_code = "request_timeout"

    def __init__(self) -> None:
        super().__init__(
            "The request body did not arrive in time; send it again over a faster connection.",
            # The rest of the body must not be read as the next request.
            headers={"connection": "close"},
        )


class RequestInProgress(ApiError):
    """A request with the same ``Idempotency-Key`` is in progress."""

    status = 409
    default_code = "request_in_progress"

    def __init__(self) -> None:
        super().__init__(
            "The first request with this Idempotency-Key is still in progress; retry to get its response.",
            headers={"retry-after": "1"},
        )


class ContentTooLarge(ApiError):
    """The request body exceeds the server's limit."""

    status = 413
    default_code = "request_too_large"

    def __init__(self, limit: int) -> None:
        super().__init__(f"The request body exceeds the limit of {limit:,} bytes; send a smaller one.")


class RateLimited(ApiError):
    """The project has exceeded its limit of requests or tokens per minute."""

    status = 429
    default_code = "rate_limit_exceeded"

    def __init__(self, kind: Literal["requests", "tokens"], limit: int, wait_ms: int) -> None:
        seconds = -(-wait_ms // 1000)
        super().__init__(
            f"The project has used its {limit:,} {kind} per minute; try again in {wait_ms / 1000:.3g} s.",
            headers={"retry-after": str(seconds), "retry-after-ms": str(wait_ms)},
        )
        self.kind = kind

    def to_response(self) -> JSONResponse:
        error = ErrorBody(message=self.detail, type=self.kind, param=None, code=self.code)
        return JSONResponse(ErrorOut(error=error).model_dump(), self.status_code, self.headers)


class InternalError(ApiError):
    """The server failed."""

    status = 500
    type = "server_error"
    default_code = "internal_error"

    def __init__(self) -> None:
        super().__init__("The server failed on this request. Report its x-request-id; the server's log has the cause.")


class ServiceUnavailable(ApiError):
    """A service that the API needs is unavailable."""

    status = 503
    type = "server_error"
    default_code = "unavailable"

    def __init__(self, message: str, *, code: str | None = None, retry_after: int = RETRY_AFTER_SECONDS) -> None:
        super().__init__(message, code=code, headers={"retry-after": str(retry_after)})


class Overloaded(ServiceUnavailable):
    """This process is at its limit of concurrent requests."""

    default_code = "overloaded"

    def __init__(self) -> None:
        super().__init__("The server is at its limit of concurrent requests; try again shortly.")


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
    """Return a route's error ``responses`` for OpenAPI: those of every route, and ``statuses``."""
    documented = {400, 401, 429, 500, 503, *statuses}
    descriptions = {error.status: error.__doc__ for error in ERROR_CLASSES}
    by_status: dict[int | str, dict[str, Any]] = {
        status: {"model": ErrorOut, "description": descriptions[status]} for status in sorted(documented)
    }
    return by_status | {"default": {"model": ErrorOut, "description": "Any other error."}}


def to_invalid_request(issue: ValidationIssue) -> InvalidRequest:
    return InvalidRequest(issue.message, param=issue.param, code=issue.code)

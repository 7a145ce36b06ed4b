"""All exceptions of this package.

LuthierError
├── ConfigurationError          base_url or api_key is missing; the message lists where to set it
├── APIConnectionError          the server did not respond
│   └── APITimeoutError         the server did not respond in time
├── APIStatusError              error response: ``status``, ``code``, ``param``, ``request_id``
│   ├── BadRequestError         400  invalid request; ``param`` names the field
│   ├── AuthenticationError     401  the API key is missing or not valid
│   ├── PermissionDeniedError   403  the key's role does not allow the request
│   ├── NotFoundError           404  the object does not exist in the key's project
│   ├── ConflictError           409  the same request is still in progress
│   ├── TooLargeError           413  the request exceeds the server's size limit
│   ├── RateLimitError          429  rate limit or quota exceeded
│   └── InternalServerError     5xx  server error; ``request_id`` finds the cause in its log
├── JobFailedError              ``wait``: the job failed or was cancelled; see ``job``
├── WaitTimeoutError            ``wait``: the job did not end within ``timeout``
└── CorruptDownloadError        the downloaded bytes do not match the server's hash

Exceptions with a status have the names of the ``openai`` package, so that an ``except`` clause
works after changing the import.
"""

from __future__ import annotations

from typing import Any

import httpx


class LuthierError(Exception):
    """Base class of all exceptions of this package."""


class ConfigurationError(LuthierError):
    """The server's address or the API key is missing."""


class APIConnectionError(LuthierError):
    """The server did not respond."""


class APITimeoutError(APIConnectionError):
    """The server did not respond in time."""


class APIStatusError(LuthierError):
    """The server responded with an error status."""

    message: str
    """Description of the error and what to change."""
    status: int
    """HTTP status."""
    type: str | None
    """Error type: ``invalid_request_error``, ``permission_error``, ``server_error``, …"""
    code: str | None
    """Machine-readable error code."""
    param: str | None
    """Field or parameter that caused the error."""
    request_id: str | None
    """Id of the request in the server's log."""

    def __init__(self, response: httpx.Response) -> None:
        error = _parse_error_body(response)
        self.message = str(
            error.get("message") or f"The server responded with status {response.status_code} and no error message."
        )
        self.status = response.status_code
        self.type, self.code, self.param = error.get("type"), error.get("code"), error.get("param")
        self.request_id = response.headers.get("x-request-id")
        super().__init__(self.message)


class BadRequestError(APIStatusError):
    """400: the request is invalid."""


class AuthenticationError(APIStatusError):
    """401: the API key is missing or not valid."""


class PermissionDeniedError(APIStatusError):
    """403: the key's role does not allow the request."""


class NotFoundError(APIStatusError):
    """404: the object does not exist in the key's project."""


class ConflictError(APIStatusError):
    """409: the same request is still in progress."""


class TooLargeError(APIStatusError):
    """413: the request exceeds the server's size limit."""


class RateLimitError(APIStatusError):
    """429: rate limit or quota exceeded."""


class InternalServerError(APIStatusError):
    """5xx: server error."""


class WaitTimeoutError(LuthierError):
    """The job did not end within the ``timeout`` of ``wait``. It is still active."""


class CorruptDownloadError(LuthierError):
    """The downloaded bytes do not match the server's hash. No file was written."""


class JobFailedError(LuthierError):
    """The job failed or was cancelled."""

    job: Any
    """The job in its final state."""
    code: str | None
    """Error code of the job; None if it was cancelled."""

    def __init__(self, job: Any) -> None:
        self.job = job
        self.code = job.error.code if job.error else None
        super().__init__(f"{job.id} {job.status}" + (f" ({self.code}): {job.error.message}" if job.error else ""))


_ERRORS_BY_STATUS: dict[int, type[APIStatusError]] = {
    400: BadRequestError,
    401: AuthenticationError,
    403: PermissionDeniedError,
    404: NotFoundError,
    409: ConflictError,
    413: TooLargeError,
    429: RateLimitError,
}


def to_error(outcome: httpx.Response | httpx.TransportError) -> LuthierError:
    """Convert an error response, whose body has been read, or a transport error to an exception."""
    if isinstance(outcome, httpx.TimeoutException):
        return APITimeoutError(
            f"The server did not respond in time: {str(outcome) or type(outcome).__name__}. "
            "Increase the client's `timeout`."
        )
    if isinstance(outcome, httpx.TransportError):
        return APIConnectionError(
            f"The server did not respond: {str(outcome) or type(outcome).__name__}. "
            "Check that it is running and that `base_url` is right."
        )
    fallback = InternalServerError if outcome.status_code >= 500 else APIStatusError
    return _ERRORS_BY_STATUS.get(outcome.status_code, fallback)(outcome)


def _parse_error_body(response: httpx.Response) -> dict[str, Any]:
    """Return the ``error`` object of the body, or an empty dict.

    A proxy between client and server may respond with any body.
    """
    try:
        body = response.json()
    except ValueError:
        return {}
    error = body.get("error") if isinstance(body, dict) else None
    return error if isinstance(error, dict) else {}

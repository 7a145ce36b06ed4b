"""Everything this package raises.

LuthierError
├── ConfigurationError          no address or no key: the message says where they are looked for
├── APIConnectionError          no answer came
│   └── APITimeoutError         none came in time
├── APIStatusError              the server answered, and refused: ``status``, ``code``, ``param``, ``request_id``
│   ├── BadRequestError         400  ``param`` names the field, the message says what to change
│   ├── AuthenticationError     401  no key, or none that is in force
│   ├── PermissionDeniedError   403  the key's role does not allow it
│   ├── NotFoundError           404  no such thing in the key's project
│   ├── ConflictError           409  the same request is still being answered
│   ├── TooLargeError           413  more bytes than the server takes in one request
│   ├── RateLimitError          429  too much at once
│   └── InternalServerError     5xx  the server's fault; ``request_id`` finds the cause in its log
├── JobFailedError              ``wait`` saw the job end otherwise than well: ``job`` has all of it
├── WaitTimeoutError            ``wait`` was told how long, and the job has not ended
└── CorruptDownloadError        what arrived is not what the server has

The names of what has a status are those of the ``openai`` package, so that an ``except`` moves by its import.
"""

from __future__ import annotations

from typing import Any

import httpx


class LuthierError(Exception):
    """Root of the family."""


class ConfigurationError(LuthierError):
    """No address or no key."""


class APIConnectionError(LuthierError):
    """No answer came."""


class APITimeoutError(APIConnectionError):
    """No answer came in time."""


class APIStatusError(LuthierError):
    """The server answered, and refused."""

    message: str
    """What to change."""
    status: int
    """The HTTP status."""
    type: str | None
    """``invalid_request_error``, ``permission_error``, ``server_error``, …"""
    code: str | None
    """The machine's word for it."""
    param: str | None
    """The field or parameter at fault."""
    request_id: str | None
    """The server's log has the request under it."""

    def __init__(self, response: httpx.Response) -> None:
        told = _parse_error_body(response)
        self.message = str(told.get("message") or f"The server answered {response.status_code} without a reason.")
        self.status = response.status_code
        self.type, self.code, self.param = told.get("type"), told.get("code"), told.get("param")
        self.request_id = response.headers.get("x-request-id")
        super().__init__(self.message)


class BadRequestError(APIStatusError):
    """400: the request is wrong."""


class AuthenticationError(APIStatusError):
    """401: no key, or none that is in force."""


class PermissionDeniedError(APIStatusError):
    """403: the key's role does not allow it."""


class NotFoundError(APIStatusError):
    """404: no such thing in the key's project."""


class ConflictError(APIStatusError):
    """409: the same request is still being answered."""


class TooLargeError(APIStatusError):
    """413: more bytes than the server takes in one request."""


class RateLimitError(APIStatusError):
    """429: too much at once."""


class InternalServerError(APIStatusError):
    """5xx: the server's fault."""


class WaitTimeoutError(LuthierError):
    """The job has not ended in the time given to ``wait``. It goes on."""


class CorruptDownloadError(LuthierError):
    """What arrived is not what the server has. Nothing was left at the path."""


class JobFailedError(LuthierError):
    """The job ended failed or cancelled."""

    job: Any
    """The job as it ended."""
    code: str | None
    """One of the run codes; None for a cancelled job."""

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
    """The family's error for a refusal that has been read, or for no answer."""
    if isinstance(outcome, httpx.TimeoutException):
        return APITimeoutError(f"No answer in time: {str(outcome) or type(outcome).__name__}.")
    if isinstance(outcome, httpx.TransportError):
        return APIConnectionError(f"No answer: {str(outcome) or type(outcome).__name__}. Does the server run?")
    fallback = InternalServerError if outcome.status_code >= 500 else APIStatusError
    return _ERRORS_BY_STATUS.get(outcome.status_code, fallback)(outcome)


def _parse_error_body(response: httpx.Response) -> dict[str, Any]:
    """The ``error`` object of the body; empty where something between us and the server answered in its own way."""
    try:
        body = response.json()
    except ValueError:
        return {}
    error = body.get("error") if isinstance(body, dict) else None
    return error if isinstance(error, dict) else {}

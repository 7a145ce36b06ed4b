"""Errors of the inference engine and their HTTP responses.

EngineError            the engine cannot fulfill a request; ``code`` is in ``STATUS_BY_CODE``
└── EngineUnavailable  the engine does not respond or is overloaded; see ``retry_after``
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

STATUS_BY_CODE: Mapping[str, int] = {
    "invalid_request": 400,
    "invalid_value": 400,
    "unknown_parameter": 400,
    "missing_required_parameter": 400,
    "unsupported_parameter": 400,
    "context_length_exceeded": 400,
    "unsuitable_model": 400,
    "base_model_unavailable": 400,
    "unauthorized": 401,
    "model_not_found": 404,
    "internal_error": 500,
    "model_unusable": 502,
    "storage_corrupt": 502,
    "storage_unavailable": 503,
    "engine_unavailable": 503,
    "engine_overloaded": 503,
}
"""All error codes and their HTTP statuses."""

_CODE_BY_PYDANTIC_TYPE = {"extra_forbidden": "unknown_parameter", "missing": "missing_required_parameter"}


class EngineError(Exception):
    """Error in OpenAI's shape. ``param`` names the field of the client's body, or is None."""

    def __init__(self, code: str, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.status = STATUS_BY_CODE[code]
        self.message = message
        self.param = param

    def to_body(self) -> dict[str, Any]:
        """Return ``{"error": {message, type, param, code}}``."""
        kind = "invalid_request_error" if self.status < 500 else "server_error"
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}

    @classmethod
    def from_body(cls, body: Mapping[str, Any]) -> EngineError:
        """Parse the output of :meth:`to_body`.

        Returns :class:`EngineUnavailable` for a code with status 503.
        """
        error = body["error"]
        if STATUS_BY_CODE[error["code"]] == 503:
            return EngineUnavailable(error["message"], error["code"])
        return EngineError(error["code"], error["message"], error["param"])

    @classmethod
    def from_validation_error(cls, error: ValidationError) -> EngineError:
        """Convert the first of pydantic's errors. ``param`` is the field's dotted path."""
        issue = error.errors(include_url=False, include_context=False, include_input=False)[0]
        kind, param = issue["type"], ".".join(str(part) for part in issue["loc"] if _is_field(part))[:256]
        code = kind if kind in STATUS_BY_CODE else _CODE_BY_PYDANTIC_TYPE.get(kind, "invalid_request")
        messages = {
            "unknown_parameter": f"Unknown parameter: '{param}'. Remove it.",
            "missing_required_parameter": f"Missing required parameter: '{param}'.",
            "unsupported_parameter": issue["msg"],
        }
        reason = issue["msg"].removeprefix("Value error, ")
        return cls(code, messages.get(code, f"Invalid '{param}': {reason}."), param or None)


class EngineUnavailable(EngineError):
    """The engine is unreachable or overloaded.

    Respond with 503 and ``Retry-After: retry_after``.
    """

    retry_after = 2
    """Seconds until the client should retry."""

    def __init__(self, message: str, code: str = "engine_unavailable") -> None:
        super().__init__(code, message)


def _is_field(part: int | str) -> bool:
    # Besides fields, `loc` contains the tag of a union's branch, and "[key]" if a mapping's key is
    # invalid.
    return not str(part).startswith(("~", "["))

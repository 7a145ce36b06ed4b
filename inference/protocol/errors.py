"""What can go wrong with a model's answer, and the HTTP face of each.

EngineError                 any answer of the engine that is not the one asked for; ``code`` says which (``CODES``)
└── EngineUnavailable       no engine answers at all, or it is too busy; worth another try after ``retry_after``
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
"""The closed list of codes, each with its HTTP status."""

_CODE_BY_PYDANTIC_TYPE = {"extra_forbidden": "unknown_parameter", "missing": "missing_required_parameter"}


class EngineError(Exception):
    """An answer in OpenAI's error shape. ``param`` names the field of the client's body, where there is one."""

    def __init__(self, code: str, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.status = STATUS_BY_CODE[code]
        self.message = message
        self.param = param

    def to_body(self) -> dict[str, Any]:
        """``{"error": {message, type, param, code}}``."""
        kind = "invalid_request_error" if self.status < 500 else "server_error"
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}

    @classmethod
    def from_body(cls, body: Mapping[str, Any]) -> EngineError:
        """The inverse of :meth:`body`; an unavailable engine's words become :class:`EngineUnavailable` again."""
        error = body["error"]
        if STATUS_BY_CODE[error["code"]] == 503:
            return EngineUnavailable(error["message"], error["code"])
        return EngineError(error["code"], error["message"], error["param"])

    @classmethod
    def from_validation_error(cls, error: ValidationError) -> EngineError:
        """The first fault that pydantic found in a body: code, the field's path as ``param``, what to change."""
        fault = error.errors(include_url=False, include_context=False, include_input=False)[0]
        kind, where = fault["type"], ".".join(str(part) for part in fault["loc"] if _is_field(part))[:256]
        code = kind if kind in STATUS_BY_CODE else _CODE_BY_PYDANTIC_TYPE.get(kind, "invalid_request")
        texts = {
            "unknown_parameter": f"Unknown parameter: '{where}'. Remove it.",
            "missing_required_parameter": f"Missing required parameter: '{where}'.",
            "unsupported_parameter": fault["msg"],
        }
        what = fault["msg"].removeprefix("Value error, ")
        return cls(code, texts.get(code, f"Invalid '{where}': {what}."), where or None)


class EngineUnavailable(EngineError):
    """The engine cannot be reached, or cannot take more now. Answer 503 with ``Retry-After: retry_after``."""

    retry_after = 2
    """Seconds."""

    def __init__(self, message: str, code: str = "engine_unavailable") -> None:
        super().__init__(code, message)


def _is_field(part: int | str) -> bool:
    # Besides fields, `loc` holds the tag of a union's branch and "[key]" where a mapping's key is at fault.
    return not str(part).startswith(("~", "["))

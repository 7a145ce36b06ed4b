"""Conversion of pydantic's errors to one message that says what to change, and the field that it is
about.

Messages never repeat a client's input, except the name of an unknown field.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

MAX_PARAM_CHARACTERS = 256

_CODE_BY_TYPE = {
    "extra_forbidden": "unknown_parameter",
    "missing": "missing_required_parameter",
    "unsupported_parameter": "unsupported_parameter",
}
_TYPES_ENDING_IN_FIELD = frozenset({"extra_forbidden", "missing"})
_LOC_SOURCES = frozenset({"body", "query", "path", "header"})


@dataclass(frozen=True)
class ValidationIssue:
    """Problem in a request. ``param`` is a dotted path such as ``messages.0.content``."""

    message: str
    param: str | None
    code: str


def to_validation_issue(errors: Sequence[Mapping[str, Any]], body: Any) -> ValidationIssue:
    """Describe the first invalid field.

    If several branches of a union fail, report the error with the longest path; join errors at the
    same path.
    """
    param, first = _find_deepest_error(errors, body)
    code = _CODE_BY_TYPE.get(first["type"], "invalid_value")
    if code == "unknown_parameter":
        return ValidationIssue(f"Unknown parameter: '{param}'. Remove it or correct its name.", param, code)
    if code == "missing_required_parameter":
        message = f"Missing required parameter: '{param}'." if param else "The request requires a JSON body; send one."
        return ValidationIssue(message, param, code)
    if code == "unsupported_parameter":
        return ValidationIssue(first["msg"], param, code)
    if param is None and first["type"] in ("model_attributes_type", "dict_type", "model_type"):
        return ValidationIssue(
            "The body must be a JSON object, sent with 'content-type: application/json'.", None, code
        )
    reasons = [_format_message(error) for error in errors if _resolve_param(error, body) == param]
    subject = f"Invalid '{param}'" if param else "Invalid request"
    return ValidationIssue(f"{subject}: {', or '.join(dict.fromkeys(reasons))}.", param, code)


def _find_deepest_error(errors: Sequence[Mapping[str, Any]], body: Any) -> tuple[str | None, Mapping[str, Any]]:
    located = [(_resolve_param(error, body), error) for error in errors]
    outer = located[0][0] or ""
    inner = [pair for pair in located if f"{pair[0]}.".startswith(f"{outer}.")]
    return max(inner, key=lambda pair: (pair[0] or "").count("."), default=located[0])


def _format_message(error: Mapping[str, Any]) -> str:
    if error["type"] == "union_tag_invalid":
        # pydantic's own message repeats the input.
        return f"'{error['ctx']['discriminator'].strip(chr(39))}' must be one of {error['ctx']['expected_tags']}"
    text: str = error["msg"]
    return text.removeprefix("Value error, ").removesuffix(".")


def _resolve_param(error: Mapping[str, Any], body: Any) -> str | None:
    """Return the parts of ``loc`` that exist in the client's body; the others name branches of a
    union."""
    source, *loc = error["loc"]
    assert source in _LOC_SOURCES, source
    if source != "body":
        return str(loc[0])[:MAX_PARAM_CHARACTERS]
    path: list[str] = []
    value = body
    for index, part in enumerate(loc):
        is_last = index == len(loc) - 1
        keys = value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
        if part in keys:
            value = value[part]
        elif not (is_last and error["type"] in _TYPES_ENDING_IN_FIELD):
            continue
        path.append(str(part))
    return ".".join(path)[:MAX_PARAM_CHARACTERS] or None

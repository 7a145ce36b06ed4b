"""From pydantic's list of errors to one sentence that says what to change, and the field that it is about.

A client's input is never repeated, but for the name of a field that nobody knows.
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
    """One thing to change. ``param`` is a dotted path such as ``messages.0.content``."""

    message: str
    param: str | None
    code: str


def to_validation_issue(errors: Sequence[Mapping[str, Any]], body: Any) -> ValidationIssue:
    """The first field at fault. Of a union's branches the one that got furthest into it counts, or all together."""
    param, first = _find_deepest_error(errors, body)
    code = _CODE_BY_TYPE.get(first["type"], "invalid_value")
    if code == "unknown_parameter":
        return ValidationIssue(f"Unknown parameter: '{param}'. Remove it or correct its name.", param, code)
    if code == "missing_required_parameter":
        what = f"Missing required parameter: '{param}'." if param else "A JSON body is needed."
        return ValidationIssue(what, param, code)
    if code == "unsupported_parameter":
        return ValidationIssue(first["msg"], param, code)
    if param is None and first["type"] in ("model_attributes_type", "dict_type", "model_type"):
        return ValidationIssue(
            "The body must be a JSON object, sent with 'content-type: application/json'.", None, code
        )
    texts = [_format_message(error) for error in errors if _resolve_param(error, body) == param]
    where = f"Invalid '{param}'" if param else "Invalid request"
    return ValidationIssue(f"{where}: {', or '.join(dict.fromkeys(texts))}.", param, code)


def _find_deepest_error(errors: Sequence[Mapping[str, Any]], body: Any) -> tuple[str | None, Mapping[str, Any]]:
    found = [(_resolve_param(error, body), error) for error in errors]
    outer = found[0][0] or ""
    inside = [pair for pair in found if f"{pair[0]}.".startswith(f"{outer}.")]
    return max(inside, key=lambda pair: (pair[0] or "").count("."), default=found[0])


def _format_message(error: Mapping[str, Any]) -> str:
    if error["type"] == "union_tag_invalid":
        # pydantic's own sentence repeats the input.
        return f"'{error['ctx']['discriminator'].strip(chr(39))}' must be one of {error['ctx']['expected_tags']}"
    text: str = error["msg"]
    return text.removeprefix("Value error, ").removesuffix(".")


def _resolve_param(error: Mapping[str, Any], body: Any) -> str | None:
    """The part of ``loc`` that a client can find in what it sent; the rest names branches of a union."""
    source, *loc = error["loc"]
    assert source in _LOC_SOURCES, source
    if source != "body":
        return str(loc[0])[:MAX_PARAM_CHARACTERS]
    found: list[str] = []
    here = body
    for place, part in enumerate(loc):
        last = place == len(loc) - 1
        keys = here if isinstance(here, dict) else range(len(here)) if isinstance(here, list) else ()
        if part in keys:
            here = here[part]
        elif not (last and error["type"] in _TYPES_ENDING_IN_FIELD):
            continue
        found.append(str(part))
    return ".".join(found)[:MAX_PARAM_CHARACTERS] or None

"""From pydantic's list of errors to one sentence that says what to change, and the field that it is about.

A client's input is never repeated, but for the name of a field that nobody knows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

MAX_PARAM = 256

_CODES = {
    "extra_forbidden": "unknown_parameter",
    "missing": "missing_required_parameter",
    "unsupported_parameter": "unsupported_parameter",
}
_NAMES_ITS_LAST_PART = frozenset({"extra_forbidden", "missing"})
_SOURCES = frozenset({"body", "query", "path", "header"})


@dataclass(frozen=True)
class Fault:
    """One thing to change. ``param`` is a dotted path such as ``messages.0.content``."""

    message: str
    param: str | None
    code: str


def fault_of(errors: Sequence[Mapping[str, Any]], body: Any) -> Fault:
    """The first field at fault. Of a union's branches the one that got furthest into it counts, or all together."""
    param, first = _furthest(errors, body)
    code = _CODES.get(first["type"], "invalid_value")
    if code == "unknown_parameter":
        return Fault(f"Unknown parameter: '{param}'. Remove it or correct its name.", param, code)
    if code == "missing_required_parameter":
        what = f"Missing required parameter: '{param}'." if param else "A JSON body is needed."
        return Fault(what, param, code)
    if code == "unsupported_parameter":
        return Fault(first["msg"], param, code)
    if param is None and first["type"] in ("model_attributes_type", "dict_type", "model_type"):
        return Fault("The body must be a JSON object, sent with 'content-type: application/json'.", None, code)
    texts = [_text(error) for error in errors if _param(error, body) == param]
    where = f"Invalid '{param}'" if param else "Invalid request"
    return Fault(f"{where}: {', or '.join(dict.fromkeys(texts))}.", param, code)


def _furthest(errors: Sequence[Mapping[str, Any]], body: Any) -> tuple[str | None, Mapping[str, Any]]:
    found = [(_param(error, body), error) for error in errors]
    outer = found[0][0] or ""
    inside = [pair for pair in found if f"{pair[0]}.".startswith(f"{outer}.")]
    return max(inside, key=lambda pair: (pair[0] or "").count("."), default=found[0])


def _text(error: Mapping[str, Any]) -> str:
    if error["type"] == "union_tag_invalid":
        # pydantic's own sentence repeats the input.
        return f"'{error['ctx']['discriminator'].strip(chr(39))}' must be one of {error['ctx']['expected_tags']}"
    text: str = error["msg"]
    return text.removeprefix("Value error, ").removesuffix(".")


def _param(error: Mapping[str, Any], body: Any) -> str | None:
    """The part of ``loc`` that a client can find in what it sent; the rest names branches of a union."""
    source, *loc = error["loc"]
    assert source in _SOURCES, source
    if source != "body":
        return str(loc[0])[:MAX_PARAM]
    found: list[str] = []
    here = body
    for place, part in enumerate(loc):
        last = place == len(loc) - 1
        keys = here if isinstance(here, dict) else range(len(here)) if isinstance(here, list) else ()
        if part in keys:
            here = here[part]
        elif not (last and error["type"] in _NAMES_ITS_LAST_PART):
            continue
        found.append(str(part))
    return ".".join(found)[:MAX_PARAM] or None

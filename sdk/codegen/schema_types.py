"""Short descriptions of OpenAPI types, such as "integer, 1 to 50, or null"."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from codegen.markdown import to_cell

_REF_PREFIX = "#/components/schemas/"

Schema = Mapping[str, Any]


def describe_type(schema: Schema, page: str = "schemas.md") -> str:
    """Render a schema for one table cell. References link to their heading on ``page``."""
    if "$ref" in schema:
        return _link_schema(schema["$ref"].removeprefix(_REF_PREFIX), page)
    if "const" in schema:
        return _to_code(schema["const"])
    if "enum" in schema:
        return ", ".join(map(_to_code, schema["enum"]))
    options = schema.get("anyOf", schema.get("oneOf"))
    if options:
        return _join_alternatives([describe_type(option, page) for option in options])
    return _describe_simple_type(schema, page)


def _describe_simple_type(schema: Schema, page: str) -> str:
    match schema.get("type"):
        case "array":
            items = describe_type(schema.get("items", {}), page)
            return f"array of {items}" + _describe_range(schema, "Items", "items")
        case "object":
            return _describe_object(schema, page)
        case "string":
            kind = "file" if schema.get("format") == "binary" else "string"
            return kind + _describe_range(schema, "Length", "characters")
        case "integer" | "number" as kind:
            return f"{kind}{_describe_bounds(schema)}"
        case None:
            return "any"
        case kind:
            return str(kind)


def describe_default(schema: Schema) -> str:
    """Render a field's default, or nothing."""
    return to_cell(_to_code(schema["default"])) if schema.get("default") not in (None, [], {}) else ""


def _link_schema(name: str, page: str) -> str:
    return f"[`{name}`]({page}#{name.lower()})"


def _to_code(value: Any) -> str:
    return f"`{json.dumps(value, ensure_ascii=False)}`"


def _join_alternatives(options: list[str]) -> str:
    # A constraint such as ", 1 to 50" reads better with its alternative behind a comma.
    separator = ", or " if any("," in option for option in options) else " or "
    return separator.join(options)


def _describe_object(schema: Schema, page: str) -> str:
    values = schema.get("additionalProperties")
    if isinstance(values, Mapping):
        return f"object of string to {describe_type(values, page)}"
    patterns = schema.get("patternProperties")
    if patterns:
        return f"object of string to {describe_type(next(iter(patterns.values())), page)}"
    return "object"


def _describe_range(schema: Schema, suffix: str, unit: str) -> str:
    """Describe ``minLength`` and ``maxLength`` of a string, ``minItems`` and ``maxItems`` of an
    array.
    """
    minimum, maximum = schema.get(f"min{suffix}"), schema.get(f"max{suffix}")
    if minimum and maximum:
        return f", {_format_number(minimum)} to {_format_number(maximum)} {unit}"
    if maximum:
        return f", at most {_format_number(maximum)} {unit}"
    return f", at least {_format_number(minimum)} {unit}" if minimum else ""


def _describe_bounds(schema: Schema) -> str:
    lower = _format_bound(schema, "minimum", "exclusiveMinimum", "above")
    upper = _format_bound(schema, "maximum", "exclusiveMaximum", "below")
    if lower and upper:
        return f", {lower} to {upper}"
    if lower:
        return f", {lower}" if lower.startswith("above") else f", at least {lower}"
    if upper:
        return f", {upper}" if upper.startswith("below") else f", at most {upper}"
    return ""


def _format_bound(schema: Schema, inclusive: str, exclusive: str, word: str) -> str:
    if inclusive in schema:
        return _format_number(schema[inclusive])
    return f"{word} {_format_number(schema[exclusive])}" if exclusive in schema else ""


def _format_number(value: float) -> str:
    return f"{int(value):,}" if float(value).is_integer() else f"{value:g}"

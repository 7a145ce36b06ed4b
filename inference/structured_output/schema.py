"""Restriction of JSON Schemas to the properties that they list.

JSON Schema allows any other properties without ``"additionalProperties": false``. Implementations
of constrained decoding usually forbid them: a model that was not trained to end an object keeps
generating new keys.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

_OBJECT_KEYWORDS = frozenset({"properties", "anyOf", "$ref"})
"""Two of these in one schema apply to the same object, each with its own properties."""
_COMBINING_KEYWORDS = frozenset({"allOf", "oneOf"})
"""Each applies several schemas to the same object."""
_OPEN_KEYWORDS = frozenset({"additionalProperties", "patternProperties", "unevaluatedProperties", "minProperties"})
"""Each is a rule about properties that are not listed."""


def forbid_extra_properties(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the schema with unlisted properties forbidden.

    Every value that matches the result matches the original schema.
    The schema is unchanged if several of its subschemas apply to one object: properties of one
    would be forbidden by another.
    """
    is_combined = any(_has_combined_schemas(subschema) for subschema in _iter_objects(schema))
    return schema if is_combined else _close_schema(schema)


def _has_combined_schemas(schema: Mapping[str, Any]) -> bool:
    return bool(_COMBINING_KEYWORDS & schema.keys()) or len(_OBJECT_KEYWORDS & schema.keys()) > 1


def _iter_objects(value: Any) -> Iterator[Mapping[str, Any]]:
    """Iterate over all objects in a value.

    Some of them are data, such as a ``default``; at worst they keep a schema open.
    """
    if isinstance(value, dict):
        yield value
    if isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _iter_objects(inner)


def _close_schema(schema: Any) -> Any:
    if not isinstance(schema, dict):
        return schema
    closed = {key: _CLOSE_BY_KEYWORD.get(key, _return_unchanged)(inner) for key, inner in schema.items()}
    return closed if _is_open(closed) else {**closed, "additionalProperties": False}


def _return_unchanged(inner: Any) -> Any:
    return inner


def _close_mapping(inner: Any) -> Any:
    return {name: _close_schema(schema) for name, schema in inner.items()} if isinstance(inner, dict) else inner


def _close_list(inner: Any) -> Any:
    return [_close_schema(schema) for schema in inner] if isinstance(inner, list) else inner


_CLOSE_BY_KEYWORD: Mapping[str, Callable[[Any], Any]] = {
    **dict.fromkeys(("properties", "patternProperties", "$defs", "definitions"), _close_mapping),
    **dict.fromkeys(("anyOf", "prefixItems"), _close_list),
    **dict.fromkeys(("items", "additionalProperties"), _close_schema),
}
"""Keyword -> function that closes the schemas in its value.

All other keywords contain data or are unsupported.
"""


def _is_open(schema: Mapping[str, Any]) -> bool:
    """True if the schema lists no properties or has rules for unlisted ones."""
    listed, required = schema.get("properties"), schema.get("required", [])
    if not isinstance(listed, dict) or not isinstance(required, list):
        return True
    return bool(_OPEN_KEYWORDS & schema.keys()) or any(name not in listed for name in required)

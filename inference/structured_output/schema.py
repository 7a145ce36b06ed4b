"""Objects that hold only the properties that a schema lists.

JSON Schema lets an object have any others unless it says ``"additionalProperties": false``. What decodes under a schema
commonly does not: a model that was never taught where an object ends goes on making keys up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

_OBJECT_KEYWORDS = frozenset({"properties", "anyOf", "$ref"})
"""Two of these in one schema hold for the same object, each with properties of its own."""
_COMBINING_KEYWORDS = frozenset({"allOf", "oneOf"})
"""Each holds several schemas against the same object."""
_OPEN_KEYWORDS = frozenset({"additionalProperties", "patternProperties", "unevaluatedProperties", "minProperties"})
"""Each says something of properties that are not listed."""


def forbid_extra_properties(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """The schema, closed; as it is where parts of it meet in one object: one's properties are unlisted in another.

    What fits the closed schema fits the schema.
    """
    return schema if any(_has_combined_schemas(part) for part in _iter_objects(schema)) else _close_schema(schema)


def _has_combined_schemas(schema: Mapping[str, Any]) -> bool:
    return bool(_COMBINING_KEYWORDS & schema.keys()) or len(_OBJECT_KEYWORDS & schema.keys()) > 1


def _iter_objects(value: Any) -> Iterator[Mapping[str, Any]]:
    """Every object in it. Some are data (a ``default``'s value), and at worst keep a schema from being closed."""
    if isinstance(value, dict):
        yield value
    if isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _iter_objects(inner)


def _close_schema(schema: Any) -> Any:
    if not isinstance(schema, dict):
        return schema
    whole = {key: _CLOSE_BY_KEYWORD.get(key, _return_unchanged)(inner) for key, inner in schema.items()}
    return whole if _is_open(whole) else {**whole, "additionalProperties": False}


def _return_unchanged(inner: Any) -> Any:
    return inner


def _close_mapping(inner: Any) -> Any:
    return {name: _close_schema(one) for name, one in inner.items()} if isinstance(inner, dict) else inner


def _close_list(inner: Any) -> Any:
    return [_close_schema(one) for one in inner] if isinstance(inner, list) else inner


_CLOSE_BY_KEYWORD: Mapping[str, Callable[[Any], Any]] = {
    **dict.fromkeys(("properties", "patternProperties", "$defs", "definitions"), _close_mapping),
    **dict.fromkeys(("anyOf", "prefixItems"), _close_list),
    **dict.fromkeys(("items", "additionalProperties"), _close_schema),
}
"""Keyword -> how the schemas in it are closed. All else is data, or is not held."""


def _is_open(schema: Mapping[str, Any]) -> bool:
    """Whether it lists no properties, or speaks of others."""
    listed, required = schema.get("properties"), schema.get("required", [])
    if not isinstance(listed, dict) or not isinstance(required, list):
        return True
    return bool(_OPEN_KEYWORDS & schema.keys()) or any(name not in listed for name in required)

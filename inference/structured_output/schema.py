"""Objects that hold only the properties that a schema lists.

JSON Schema lets an object have any others unless it says ``"additionalProperties": false``. What decodes under a schema
commonly does not: a model that was never taught where an object ends goes on making keys up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

_JOINING = frozenset({"properties", "anyOf", "$ref"})
"""Two of these in one schema hold for the same object, each with properties of its own."""
_WEIGHING = frozenset({"allOf", "oneOf"})
"""Each holds several schemas against the same object."""
_OPENING = frozenset({"additionalProperties", "patternProperties", "unevaluatedProperties", "minProperties"})
"""Each says something of properties that are not listed."""


def closed(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """The schema, closed; as it is where parts of it meet in one object: one's properties are unlisted in another.

    What fits the closed schema fits the schema.
    """
    return schema if any(_joins(part) for part in _parts(schema)) else _closed(schema)


def _joins(schema: Mapping[str, Any]) -> bool:
    return bool(_WEIGHING & schema.keys()) or len(_JOINING & schema.keys()) > 1


def _parts(value: Any) -> Iterator[Mapping[str, Any]]:
    """Every object in it. Some are data (a ``default``'s value), and at worst keep a schema from being closed."""
    if isinstance(value, dict):
        yield value
    if isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _parts(inner)


def _closed(schema: Any) -> Any:
    if not isinstance(schema, dict):
        return schema
    whole = {key: _INNER.get(key, _as_it_is)(inner) for key, inner in schema.items()}
    return whole if _says_more(whole) else {**whole, "additionalProperties": False}


def _as_it_is(inner: Any) -> Any:
    return inner


def _named(inner: Any) -> Any:
    return {name: _closed(one) for name, one in inner.items()} if isinstance(inner, dict) else inner


def _listed(inner: Any) -> Any:
    return [_closed(one) for one in inner] if isinstance(inner, list) else inner


_INNER: Mapping[str, Callable[[Any], Any]] = {
    **dict.fromkeys(("properties", "patternProperties", "$defs", "definitions"), _named),
    **dict.fromkeys(("anyOf", "prefixItems"), _listed),
    **dict.fromkeys(("items", "additionalProperties"), _closed),
}
"""Keyword -> how the schemas in it are closed. All else is data, or is not held."""


def _says_more(schema: Mapping[str, Any]) -> bool:
    """Whether it lists no properties, or speaks of others."""
    listed, required = schema.get("properties"), schema.get("required", [])
    if not isinstance(listed, dict) or not isinstance(required, list):
        return True
    return bool(_OPENING & schema.keys()) or any(name not in listed for name in required)

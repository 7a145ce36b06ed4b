"""Objects that hold only the properties that a schema lists.

JSON Schema lets an object have any others unless it says ``"additionalProperties": false``. What decodes under a schema
commonly does not: a model that was never taught where an object ends goes on making keys up.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

_MAPS = ("properties", "$defs", "definitions")
_LISTS = ("anyOf", "prefixItems")
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


def _parts(schema: Any) -> Iterator[Mapping[str, Any]]:
    """It and every schema in it. Data (an ``enum``'s values, a ``default``) are none."""
    if not isinstance(schema, dict):
        return
    yield schema
    maps = (schema[key].values() for key in _MAPS if isinstance(schema.get(key), dict))
    lists = (schema[key] for key in _LISTS if isinstance(schema.get(key), list))
    for inner in (inner for group in (*maps, *lists, [schema.get("items")]) for inner in group):
        yield from _parts(inner)


def _closed(schema: Any) -> Any:
    if not isinstance(schema, dict):
        return schema
    whole = dict(schema)
    for key in whole.keys() & {*_MAPS}:
        if isinstance(whole[key], dict):
            whole[key] = {name: _closed(inner) for name, inner in whole[key].items()}
    for key in whole.keys() & {*_LISTS}:
        if isinstance(whole[key], list):
            whole[key] = [_closed(inner) for inner in whole[key]]
    if "items" in whole:
        whole["items"] = _closed(whole["items"])
    return whole if _says_more(whole) else {**whole, "additionalProperties": False}


def _says_more(schema: Mapping[str, Any]) -> bool:
    """Whether it lists no properties, or speaks of others."""
    listed, required = schema.get("properties"), schema.get("required", [])
    if not isinstance(listed, dict) or not isinstance(required, list):
        return True
    return bool(_OPENING & schema.keys()) or any(name not in listed for name in required)

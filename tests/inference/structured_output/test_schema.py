"""Extra properties are forbidden in schemas if that is safe, and only then."""

from __future__ import annotations

from typing import Any

import pytest
from jsonschema import Draft202012Validator

from inference.structured_output.schema import forbid_extra_properties

A, B = {"properties": {"a": {"type": "integer"}}}, {"properties": {"b": {"type": "integer"}}}
NO_EXTRA_PROPERTIES = {"additionalProperties": False}

CHANGED_SCHEMAS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    (A, {**A, **NO_EXTRA_PROPERTIES}),
    ({"type": "object", "properties": {}}, {"type": "object", "properties": {}, **NO_EXTRA_PROPERTIES}),
    ({**A, "required": ["a"]}, {**A, "required": ["a"], **NO_EXTRA_PROPERTIES}),
    ({"properties": {"x": A}}, {"properties": {"x": {**A, **NO_EXTRA_PROPERTIES}}, **NO_EXTRA_PROPERTIES}),
    ({"items": A}, {"items": {**A, **NO_EXTRA_PROPERTIES}}),
    ({"prefixItems": [A, True]}, {"prefixItems": [{**A, **NO_EXTRA_PROPERTIES}, True]}),
    ({"anyOf": [A, {"type": "null"}]}, {"anyOf": [{**A, **NO_EXTRA_PROPERTIES}, {"type": "null"}]}),
    ({"$defs": {"x": A}, "$ref": "#/$defs/x"}, {"$defs": {"x": {**A, **NO_EXTRA_PROPERTIES}}, "$ref": "#/$defs/x"}),
    ({"additionalProperties": A}, {"additionalProperties": {**A, **NO_EXTRA_PROPERTIES}}),
    ({"patternProperties": {"^x": A}}, {"patternProperties": {"^x": {**A, **NO_EXTRA_PROPERTIES}}}),
    # A property with the name "properties" is not the keyword.
    (
        {"properties": {"properties": A}},
        {"properties": {"properties": {**A, **NO_EXTRA_PROPERTIES}}, **NO_EXTRA_PROPERTIES},
    ),
]
UNCHANGED_SCHEMAS: list[dict[str, Any]] = [
    {},
    {"type": "object"},
    {**A, "additionalProperties": True},
    {**A, "additionalProperties": {"type": "string"}},
    {**A, "patternProperties": {"^x": {}}},
    {**A, "minProperties": 2},
    {**A, "required": ["a", "b"]},
    {"allOf": [A, B]},
    {"oneOf": [{**A, "required": ["a"]}, B]},
    {**A, "anyOf": [B, {"required": ["a"]}]},
    {"$defs": {"x": A}, "$ref": "#/$defs/x", "anyOf": [B]},
    {"additionalProperties": {"allOf": [{"$ref": "#/$defs/x"}, B]}, "$defs": {"x": A}},
    {"enum": [A], "const": A, "default": A, "examples": [A]},
    {"properties": 3},
    {"anyOf": 3, "items": 3},
]


@pytest.mark.parametrize(("schema", "expected"), CHANGED_SCHEMAS)
def test_extra_properties_are_forbidden(schema: dict[str, Any], expected: dict[str, Any]) -> None:
    original = repr(schema)
    assert forbid_extra_properties(schema) == expected
    assert repr(schema) == original


@pytest.mark.parametrize("schema", UNCHANGED_SCHEMAS)
def test_schemas_with_rules_for_other_properties_are_unchanged(schema: dict[str, Any]) -> None:
    assert forbid_extra_properties(schema) == schema


@pytest.mark.parametrize("schema", [schema for schema, _ in CHANGED_SCHEMAS] + UNCHANGED_SCHEMAS[:-2])
def test_values_of_the_changed_schema_match_the_original(schema: dict[str, Any]) -> None:
    values: list[Any] = [{}, {"a": 1}, {"a": "x"}, {"b": 1}, {"a": 1, "b": 1}, {"x": {"a": 1}}, [{"a": 1}], None, [{}]]
    narrow, wide = Draft202012Validator(forbid_extra_properties(schema)), Draft202012Validator(schema)
    matching = [value for value in values if narrow.is_valid(value)]
    assert all(wide.is_valid(value) for value in matching)
    assert matching or not any(wide.is_valid(value) for value in values)

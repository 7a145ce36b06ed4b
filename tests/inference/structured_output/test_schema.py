"""Schemas whose objects hold only what is listed: where that is sound, and nowhere else."""

from __future__ import annotations

from typing import Any

import pytest
from jsonschema import Draft202012Validator

from inference.structured_output.schema import closed

A, B = {"properties": {"a": {"type": "integer"}}}, {"properties": {"b": {"type": "integer"}}}
END = {"additionalProperties": False}

CLOSED: list[tuple[dict[str, Any], dict[str, Any]]] = [
    (A, {**A, **END}),
    ({"type": "object", "properties": {}}, {"type": "object", "properties": {}, **END}),
    ({**A, "required": ["a"]}, {**A, "required": ["a"], **END}),
    ({"properties": {"x": A}}, {"properties": {"x": {**A, **END}}, **END}),
    ({"items": A}, {"items": {**A, **END}}),
    ({"prefixItems": [A, True]}, {"prefixItems": [{**A, **END}, True]}),
    ({"anyOf": [A, {"type": "null"}]}, {"anyOf": [{**A, **END}, {"type": "null"}]}),
    ({"$defs": {"x": A}, "$ref": "#/$defs/x"}, {"$defs": {"x": {**A, **END}}, "$ref": "#/$defs/x"}),
    ({"additionalProperties": A}, {"additionalProperties": {**A, **END}}),
    ({"patternProperties": {"^x": A}}, {"patternProperties": {"^x": {**A, **END}}}),
    # A property of that name is no list of properties.
    ({"properties": {"properties": A}}, {"properties": {"properties": {**A, **END}}, **END}),
]
AS_IT_IS: list[dict[str, Any]] = [
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


@pytest.mark.parametrize(("schema", "expected"), CLOSED)
def test_objects_are_closed(schema: dict[str, Any], expected: dict[str, Any]) -> None:
    before = repr(schema)
    assert closed(schema) == expected
    assert repr(schema) == before


@pytest.mark.parametrize("schema", AS_IT_IS)
def test_what_speaks_of_other_properties_stays(schema: dict[str, Any]) -> None:
    assert closed(schema) == schema


@pytest.mark.parametrize("schema", [schema for schema, _ in CLOSED] + AS_IT_IS[:-2])
def test_what_fits_the_closed_schema_fits_the_schema(schema: dict[str, Any]) -> None:
    values: list[Any] = [{}, {"a": 1}, {"a": "x"}, {"b": 1}, {"a": 1, "b": 1}, {"x": {"a": 1}}, [{"a": 1}], None, [{}]]
    narrow, wide = Draft202012Validator(closed(schema)), Draft202012Validator(schema)
    fitting = [value for value in values if narrow.is_valid(value)]
    assert all(wide.is_valid(value) for value in fitting)
    assert fitting or not any(wide.is_valid(value) for value in values)

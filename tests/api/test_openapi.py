"""The OpenAPI document supports code generation: named operations, bounds, examples,
completeness."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.routing import iter_route_contexts
from jsonschema import Draft202012Validator

from api.app import PUBLIC_PATHS, create_app
from tests.api.openapi_document import Operation, collect_examples, fetch_document, iter_operations, iter_subschemas
from tests.api.stack import Stack

ERROR_STATUSES = {"400", "401", "500", "503", "default"}


@pytest.fixture(scope="module")
def document(stack: Stack) -> dict[str, Any]:
    return fetch_document(stack)


@pytest.fixture(scope="module")
def operations(document: dict[str, Any]) -> list[Operation]:
    return list(iter_operations(document))


def filter_v1(operations: list[Operation]) -> list[Operation]:
    return [operation for operation in operations if operation.path.startswith("/v1")]


def test_version(document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.1.")
    assert document["info"]["title"] == "Luthier"


def test_operation_ids_are_names(operations: list[Operation]) -> None:
    ids = Counter(operation.spec["operationId"] for operation in operations)
    assert not [name for name, count in ids.items() if count > 1]
    assert not [name for name in ids if not re.fullmatch(r"[a-z]+(_[a-z0-9]+)*", name)]


def test_every_operation_has_a_description(operations: list[Operation]) -> None:
    for operation in operations:
        assert operation.spec["summary"], operation
        assert len(operation.spec["description"]) > 10, operation
        assert operation.spec["tags"], operation


def test_every_error_is_documented(operations: list[Operation]) -> None:
    for operation in filter_v1(operations):
        expected = ERROR_STATUSES | ({"404"} if "{" in operation.path else set())
        assert expected <= set(operation.spec["responses"]), operation
        assert any(status.startswith("2") for status in operation.spec["responses"]), operation
        for status, response in operation.spec["responses"].items():
            assert response["description"], f"{operation}: {status}"
            if not status.startswith(("2", "3")):
                assert response["content"]["application/json"]["schema"]["$ref"].endswith("/ErrorOut"), operation


def test_every_success_has_a_schema(operations: list[Operation]) -> None:
    for operation in filter_v1(operations):
        for status, response in operation.spec["responses"].items():
            for kind, media in response.get("content", {}).items():
                if status.startswith("2") and kind == "application/json":
                    assert media["schema"], f"{operation}: {status}"


def test_every_json_body_has_an_example_that_fits(document: dict[str, Any], operations: list[Operation]) -> None:
    for operation in operations:
        if operation.json_body is None:
            continue
        examples = collect_examples(document, operation.json_body)
        assert examples, f"{operation}: no example of its body"
        validator = Draft202012Validator({**operation.json_body["schema"], "components": document["components"]})
        for example in examples:
            assert not [error.message for error in validator.iter_errors(example)], operation


def iter_input_schemas(document: dict[str, Any], operations: list[Operation]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every schema of bodies and parameters except path parameters.

    The length of the request line bounds path parameters.
    """
    for operation in operations:
        for kind, media in operation.spec.get("requestBody", {}).get("content", {}).items():
            yield from iter_subschemas(document, media["schema"], f"{operation} {kind}")
        for parameter in operation.spec.get("parameters", []):
            if parameter["in"] == "path":
                continue
            yield from iter_subschemas(
                document, parameter["schema"], f"{operation} {parameter['in']} {parameter['name']}"
            )


def find_missing_bound(schema: dict[str, Any]) -> str | None:
    """Return the kind of value that the schema leaves unbounded, or None."""
    if "enum" in schema or "const" in schema:
        return None
    kind = schema.get("type")
    if kind == "string" and not {"maxLength", "pattern"} & schema.keys() and schema.get("format") != "binary":
        return "a string"
    if kind == "array" and not {"maxItems", "prefixItems"} & schema.keys():
        return "an array"
    if kind in {"integer", "number"}:
        low, high = {"minimum", "exclusiveMinimum"}, {"maximum", "exclusiveMaximum"}
        return None if low & schema.keys() and high & schema.keys() else "a number"
    if kind == "object" and schema.get("additionalProperties") is not False and "maxProperties" not in schema:
        return "an object"
    return None


def test_everything_that_clients_send_is_bounded(document: dict[str, Any], operations: list[Operation]) -> None:
    unbounded = {
        f"{location}: {kind}"
        for location, schema in iter_input_schemas(document, operations)
        if (kind := find_missing_bound(schema)) is not None
    }
    assert not sorted(unbounded)


@pytest.mark.parametrize("schema", [{"type": "string"}, {"type": "array"}, {"type": "integer", "minimum": 0}])
def test_missing_bounds_are_found(schema: dict[str, Any]) -> None:
    assert find_missing_bound(schema)
    assert find_missing_bound({"type": "object"})
    assert not find_missing_bound({**schema, "maxLength": 1, "maxItems": 1, "maximum": 1})


def list_routes(app: FastAPI) -> set[tuple[str, str]]:
    """Return the routing table as ``(method, path)``."""
    return {
        (method, route.path_format or route.path or "")
        for route in iter_route_contexts(app.routes)
        for method in (route.methods or set()) - {"HEAD", "OPTIONS"}
    }


def test_the_document_is_the_routing_table(stack: Stack, operations: list[Operation]) -> None:
    table = list_routes(create_app(stack.settings))
    documented = {(operation.method.upper(), operation.path) for operation in operations}
    undocumented = {("GET", "/openapi.json"), ("GET", "/docs")}
    assert table - documented == undocumented
    assert documented <= table
    assert {path for _, path in table if not path.startswith("/v1")} == set(PUBLIC_PATHS)

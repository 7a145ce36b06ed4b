"""The OpenAPI document as tests read it: its operations, the examples of their bodies, what stands in their schemas."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tests.api.stack import Stack

HTTP_METHODS = frozenset({"get", "post", "put", "patch", "delete"})


@dataclass(frozen=True)
class Operation:
    method: str
    path: str
    spec: dict[str, Any]

    def __str__(self) -> str:
        return f"{self.method.upper()} {self.path}"

    @property
    def json_body(self) -> dict[str, Any] | None:
        """The media type of a JSON body, where the operation takes one."""
        found: dict[str, Any] | None = self.spec.get("requestBody", {}).get("content", {}).get("application/json")
        return found

    @property
    def has_required_body(self) -> bool:
        return bool(self.spec.get("requestBody", {}).get("required"))


def fetch_document(stack: Stack) -> dict[str, Any]:
    with stack.open_anonymous_http() as http:
        document: dict[str, Any] = http.get("/openapi.json").json()
    return document


def iter_operations(document: dict[str, Any]) -> Iterator[Operation]:
    for path, operations in document["paths"].items():
        for method, facts in operations.items():
            if method in HTTP_METHODS:
                yield Operation(method, path, facts)


def resolve_reference(document: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    """The schema that a reference leads to."""
    while "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return schema


def collect_examples(document: dict[str, Any], body: dict[str, Any]) -> list[Any]:
    """Those of the media type itself, else of its schema, or of the branches of an optional body's schema."""
    if "example" in body:
        return [body["example"]]
    if "examples" in body:
        return [example["value"] for example in body["examples"].values()]
    schemas = [body["schema"], *body["schema"].get("anyOf", [])]
    return [example for schema in schemas for example in resolve_reference(document, schema).get("examples", [])]


def iter_subschemas(
    document: dict[str, Any], schema: dict[str, Any], where: str
) -> Iterator[tuple[str, dict[str, Any]]]:
    """The schema and every schema in it, with the way to each."""
    seen: set[str] = set()

    def walk(schema: dict[str, Any], location: str) -> Iterator[tuple[str, dict[str, Any]]]:
        if "$ref" in schema:
            if schema["$ref"] in seen:
                return
            seen.add(schema["$ref"])
            schema = resolve_reference(document, schema)
        yield location, schema
        for name, inner in schema.get("properties", {}).items():
            yield from walk(inner, f"{location}.{name}")
        for key in ("anyOf", "oneOf", "allOf", "prefixItems"):
            for inner in schema.get(key, []):
                yield from walk(inner, location)
        for key in ("items", "additionalProperties"):
            if isinstance(schema.get(key), dict):
                yield from walk(schema[key], f"{location}[]")

    yield from walk(schema, where)

"""Access to the OpenAPI document for tests: operations, examples of their bodies, and
subschemas."""

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
        """Media type of the JSON body, or None if the operation has no JSON body."""
        media: dict[str, Any] | None = self.spec.get("requestBody", {}).get("content", {}).get("application/json")
        return media

    @property
    def has_required_body(self) -> bool:
        return bool(self.spec.get("requestBody", {}).get("required"))


def fetch_document(stack: Stack) -> dict[str, Any]:
    with stack.open_anonymous_http() as http:
        document: dict[str, Any] = http.get("/openapi.json").json()
    return document


def iter_operations(document: dict[str, Any]) -> Iterator[Operation]:
    for path, operations in document["paths"].items():
        for method, spec in operations.items():
            if method in HTTP_METHODS:
                yield Operation(method, path, spec)


def resolve_reference(document: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema that a reference points to."""
    while "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return schema


def collect_examples(document: dict[str, Any], body: dict[str, Any]) -> list[Any]:
    """Return the examples of the media type itself, or else of its schema and of the schema's
    ``anyOf`` branches."""
    if "example" in body:
        return [body["example"]]
    if "examples" in body:
        return [example["value"] for example in body["examples"].values()]
    schemas = [body["schema"], *body["schema"].get("anyOf", [])]
    return [example for schema in schemas for example in resolve_reference(document, schema).get("examples", [])]


def iter_subschemas(
    document: dict[str, Any], schema: dict[str, Any], location: str
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield ``(location, schema)`` for the schema and every schema in it."""
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

    yield from walk(schema, location)

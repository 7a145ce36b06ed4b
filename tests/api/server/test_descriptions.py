"""Descriptions in the OpenAPI document: how many there are, and their language."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from codegen.paths import OPENAPI_DOCUMENT
from tests.api.openapi_document import Operation, iter_operations
from tests.test_repository_rules import BANNED_PHRASES

MIN_PROPERTY_SHARE = 0.28
MIN_PARAMETER_SHARE = 0.48
MIN_SCHEMA_SHARE = 0.65
"""Shares with a description. They may only rise: 221 of 771, 47 of 97 and 96 of 147 at the time of
writing."""
DEFAULT_DESCRIPTIONS = {"Successful Response", "Validation Error"}
"""FastAPI's descriptions of responses."""


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    """The committed document, which equals the server's by a test of ``sdk``."""
    document: dict[str, Any] = json.loads(OPENAPI_DOCUMENT.read_text())
    return document


@pytest.fixture(scope="module")
def operations(document: dict[str, Any]) -> list[Operation]:
    return list(iter_operations(document))


def iter_descriptions(node: Any, location: str = "") -> Iterator[tuple[str, str]]:
    """Yield the location and text of every description, but not of properties of that name."""
    if isinstance(node, list):
        for number, inner in enumerate(node):
            yield from iter_descriptions(inner, f"{location}/{number}")
    elif isinstance(node, dict):
        for name, inner in node.items():
            if name == "description" and isinstance(inner, str):
                yield location, inner
            elif name not in {"example", "examples", "default", "enum", "const"}:
                yield from iter_descriptions(inner, f"{location}/{name}")


def compute_share(objects: list[dict[str, Any]]) -> float:
    assert objects
    return sum(bool(item.get("description", "").strip()) for item in objects) / len(objects)


def list_schemas(document: dict[str, Any]) -> list[dict[str, Any]]:
    return list(document["components"]["schemas"].values())


def test_the_share_of_described_properties_does_not_fall(document: dict[str, Any]) -> None:
    properties = [field for schema in list_schemas(document) for field in schema.get("properties", {}).values()]
    assert compute_share(properties) >= MIN_PROPERTY_SHARE


def test_the_share_of_described_schemas_does_not_fall(document: dict[str, Any]) -> None:
    assert compute_share(list_schemas(document)) >= MIN_SCHEMA_SHARE


def test_the_share_of_described_parameters_does_not_fall(operations: list[Operation]) -> None:
    parameters = [parameter for operation in operations for parameter in operation.spec.get("parameters", [])]
    assert compute_share(parameters) >= MIN_PARAMETER_SHARE


def test_an_empty_description_is_none() -> None:
    assert compute_share([{"description": " "}, {"description": "A name."}, {}, {}]) == 0.25


def test_operations_are_described_in_sentences(operations: list[Operation]) -> None:
    for operation in operations:
        for paragraph in operation.spec["description"].split("\n\n"):
            assert re.fullmatch(r"(?s)[A-Z`].*\.", paragraph.strip()), f"{operation}: {paragraph}"


def test_summaries_are_titles_that_differ(operations: list[Operation]) -> None:
    summaries = [operation.spec["summary"] for operation in operations]
    assert len(set(summaries)) == len(summaries)
    assert [summary for summary in summaries if not re.fullmatch(r"[A-Z][A-Za-z ]*", summary)] == []


def test_every_description_is_a_sentence(document: dict[str, Any]) -> None:
    fragments = [
        (location, text)
        for location, text in iter_descriptions(document)
        if text not in DEFAULT_DESCRIPTIONS and not re.fullmatch(r"(?s)\S.*[.…]", text.strip())
    ]
    assert fragments == []


def test_no_description_has_a_banned_phrase(document: dict[str, Any]) -> None:
    descriptions = list(iter_descriptions(document))
    assert len(descriptions) > 500
    assert [(location, text) for location, text in descriptions if BANNED_PHRASES.search(text)] == []


def test_no_description_has_reference_roles_or_unbalanced_code(document: dict[str, Any]) -> None:
    broken = [
        (location, text)
        for location, text in iter_descriptions(document)
        if re.search(r":(?:class|func|meth|mod|attr|data):`", text) or text.count("`") % 2
    ]
    assert broken == []

"""The reference of the HTTP API: types in words, every operation once, and links with targets."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
from markdown import Markdown

from codegen.http_reference import TAGS, build_pages
from codegen.markdown import PROSE_COLUMNS, render_table, to_cell, to_markdown, wrap
from codegen.pages import PAGES
from codegen.paths import OPENAPI_DOCUMENT
from codegen.schema_types import describe_default, describe_type

NULL = {"type": "null"}
DOCUMENT = json.loads(OPENAPI_DOCUMENT.read_text())
OPERATIONS = [(method.upper(), path) for path, item in DOCUMENT["paths"].items() for method in item]


@cache
def render(page: str) -> str:
    return PAGES[page]()


@cache
def render_html(page: str) -> Markdown:
    """Render a page like the documentation site. The result has the tokens of its headings."""
    markdown = Markdown(extensions=["tables", "toc", "fenced_code"])
    markdown.convert(render(page))
    return markdown


def list_anchors(page: str) -> list[str]:
    def walk(tokens: list[dict[str, Any]]) -> Iterator[str]:
        for token in tokens:
            yield token["id"]
            yield from walk(token["children"])

    return list(walk(render_html(page).toc_tokens))  # type: ignore[attr-defined]


def list_tables(text: str) -> list[list[list[str]]]:
    """Return the cells of every table, split at each pipe that is not escaped."""
    blocks = re.findall(r"(?:^\|.*\n?)+", text, re.M)
    return [
        [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in block.splitlines()]
        for block in blocks
    ]


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({"type": "boolean"}, "boolean"),
        ({"type": "object"}, "object"),
        ({}, "any"),
        ({"type": "string", "format": "binary"}, "file"),
        ({"type": "string", "maxLength": 64}, "string, at most 64 characters"),
        ({"type": "string", "minLength": 1}, "string, at least 1 characters"),
        ({"type": "string", "minLength": 1, "maxLength": 4096}, "string, 1 to 4,096 characters"),
        ({"const": "auto", "type": "string"}, '`"auto"`'),
        ({"const": True}, "`true`"),
        ({"enum": ["asc", "desc"], "type": "string"}, '`"asc"`, `"desc"`'),
        ({"enum": [1, None]}, "`1`, `null`"),
        ({"type": "array", "items": {"type": "string"}}, "array of string"),
        ({"type": "array"}, "array of any"),
        ({"type": "array", "items": {"type": "integer"}, "maxItems": 2000}, "array of integer, at most 2,000 items"),
        (
            {"type": "array", "items": {"type": "array", "items": {"type": "number"}}, "minItems": 1, "maxItems": 3},
            "array of array of number, 1 to 3 items",
        ),
        ({"type": "object", "additionalProperties": {"type": "string"}}, "object of string to string"),
        ({"type": "object", "additionalProperties": True}, "object"),
        ({"type": "object", "patternProperties": {"^a": {"type": "integer"}}}, "object of string to integer"),
        ({"$ref": "#/components/schemas/FileOut"}, "[`FileOut`](schemas.md#fileout)"),
        ({"anyOf": [{"type": "string"}, NULL]}, "string or null"),
        ({"oneOf": [{"type": "string"}, {"type": "integer"}]}, "string or integer"),
        ({"anyOf": [{"type": "integer", "minimum": 1, "maximum": 50}, NULL]}, "integer, 1 to 50, or null"),
        ({"anyOf": [{"enum": ["a", "b"]}, {"type": "number"}, NULL]}, '`"a"`, `"b"`, or number, or null'),
    ],
)
def test_a_type_is_described_in_words(schema: dict[str, Any], expected: str) -> None:
    assert describe_type(schema) == expected


@pytest.mark.parametrize(
    ("bounds", "expected"),
    [
        ({}, "number"),
        ({"minimum": 0}, "number, at least 0"),
        ({"maximum": 0}, "number, at most 0"),
        ({"exclusiveMinimum": 0}, "number, above 0"),
        ({"exclusiveMaximum": 1}, "number, below 1"),
        ({"minimum": 0, "maximum": 1}, "number, 0 to 1"),
        ({"exclusiveMinimum": 0, "maximum": 0.5}, "number, above 0 to 0.5"),
        ({"minimum": -2, "exclusiveMaximum": 2}, "number, -2 to below 2"),
        ({"minimum": 3600, "maximum": 2592000}, "number, 3,600 to 2,592,000"),
    ],
)
def test_bounds_are_described_even_if_they_are_zero(bounds: dict[str, float], expected: str) -> None:
    assert describe_type({"type": "number", **bounds}) == expected


@pytest.mark.parametrize(
    ("default", "expected"),
    [(None, ""), ([], ""), ({}, ""), (False, "`false`"), (0, "`0`"), ("a|b", '`"a\\|b"`'), (["é"], '`["é"]`')],
)
def test_a_default_is_shown_unless_it_is_empty(default: object, expected: str) -> None:
    assert describe_default({"default": default}) == expected
    assert describe_default({}) == ""


def test_references_lead_to_the_given_page() -> None:
    schema = {"type": "array", "items": {"anyOf": [{"$ref": "#/components/schemas/Tool"}, NULL]}}
    assert describe_type(schema, "") == "array of [`Tool`](#tool) or null"


def test_docstrings_become_markdown() -> None:
    assert to_markdown("``a`` and :class:`B` and :meth:`~c.d`") == "`a` and `B` and `~c.d`"
    assert to_cell("  ``a|b``\n  c  ") == "`a\\|b` c"


def test_a_cell_with_pipes_and_lines_stays_one_cell() -> None:
    table = render_table(["a", "b"], [[to_cell("x | y\nz"), "1"], [to_cell("``|``"), "2"]])
    assert [len(row) for row in list_tables(table)[0]] == [2, 2, 2, 2]
    html = Markdown(extensions=["tables"]).convert(table)
    assert html.count("<td>") == 4
    assert "x | y z" in html


def test_prose_is_wrapped_without_breaking_words() -> None:
    link = f"[text](https://example.com/{'long-path/' * 15})"
    lines = wrap(f"{'word ' * 40}{link} end").splitlines()
    assert link in lines
    assert max(len(line) for line in lines if line != link) <= PROSE_COLUMNS


def test_every_operation_has_one_section_and_one_row_in_the_index() -> None:
    sections = Counter(
        match for tag in TAGS for match in re.findall(r"^## .+\n\n`([A-Z]+) (\S+)`$", render(f"api/{tag}.md"), re.M)
    )
    rows = Counter(re.findall(r"^\| `([A-Z]+)` \| `(\S+)` \|", render("api/index.md"), re.M))
    assert sections == Counter(OPERATIONS)
    assert rows == Counter(OPERATIONS)


def test_every_schema_has_one_section() -> None:
    sections = re.findall(r"^## (\S+)$", render("api/schemas.md"), re.M)
    assert sorted(sections) == sorted(DOCUMENT["components"]["schemas"])


def test_every_tag_has_a_page() -> None:
    tags = {spec["tags"][0] for item in DOCUMENT["paths"].values() for spec in item.values()}
    assert tags == set(TAGS)
    assert set(build_pages()) == {"api/index.md", "api/schemas.md", *(f"api/{tag}.md" for tag in TAGS)}


@pytest.mark.parametrize("page", sorted(build_pages()))
def test_headings_have_different_anchors(page: str) -> None:
    headings = re.findall(r"^#+ (.+)$", render(page), re.M)
    assert len(list_anchors(page)) == len(headings)
    assert [heading for heading, count in Counter(map(str.lower, headings)).items() if count > 1] == []


@pytest.mark.parametrize("page", sorted(build_pages()))
def test_links_between_pages_lead_to_anchors(page: str) -> None:
    links = re.findall(r"\]\(([\w-]*(?:\.md)?)#([^)]+)\)", render(page))
    assert links or page == "api/health.md"
    missing = {
        f"{target}#{anchor}"
        for target, anchor in links
        if anchor not in list_anchors(f"api/{target}" if target else page)
    }
    assert missing == set()


@pytest.mark.parametrize("page", sorted(PAGES))
def test_every_row_has_the_cells_of_its_table(page: str) -> None:
    for header, *rows in list_tables(render(page)):
        assert [row for row in rows if len(row) != len(header)] == []
        assert any(row[0] for row in rows)


def test_every_field_of_a_body_is_listed_with_its_description() -> None:
    text = render("api/schemas.md")
    for name, schema in DOCUMENT["components"]["schemas"].items():
        section = re.split(r"^## ", text.split(f"\n## {name}\n")[1], maxsplit=1, flags=re.M)[0]
        for field, spec in schema.get("properties", {}).items():
            [row] = re.findall(rf"^\| `{re.escape(field)}` \|.*$", section, re.M)
            assert to_cell(spec.get("description", "")) in row
            assert ("| required |" in row) == (field in schema.get("required", [])), f"{name}.{field}"

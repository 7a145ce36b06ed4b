"""Reference of the HTTP API in ``docs/api/``, generated from ``sdk/openapi.json``."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

from codegen.markdown import render_table, to_cell, to_markdown, wrap
from codegen.paths import OPENAPI_DOCUMENT
from codegen.schema_types import Schema, describe_default, describe_type

TAGS = {
    "fine-tuning": "Fine-tuning",
    "files": "Files",
    "uploads": "Uploads",
    "models": "Models",
    "inference": "Inference",
    "batches": "Batches",
    "webhooks": "Webhooks",
    "organization": "Organization",
    "health": "Health",
}
"""Tag -> title of its page, in the order of the navigation."""

_NOTE = "Written by `make sdk` from `sdk/openapi.json`.\n"

_COMMON_STATUSES = ("400", "401", "403", "404", "413", "429", "500", "503", "default")
"""Statuses with the same body and meaning at every operation; the index describes them."""


_DEFAULT_DESCRIPTION = "Successful Response"
"""FastAPI's description of a response that has none."""


@dataclass(frozen=True)
class Operation:
    """One method of one path."""

    method: str
    path: str
    spec: Mapping[str, Any]

    @property
    def tag(self) -> str:
        tag: str = self.spec["tags"][0]
        return tag

    @property
    def title(self) -> str:
        """The summary in sentence case: ``Create Fine Tuning Job`` becomes ``Create fine-tuning
        job``.
        """
        words = self.spec["summary"].lower().replace("fine tuning", "fine-tuning").replace("api key", "API key")
        return str(words[0].upper() + words[1:])

    @property
    def link(self) -> str:
        return f"{self.tag}.md#{self.title.lower().replace(' ', '-')}"


def render_index() -> str:
    lines = ["# HTTP API\n", _NOTE]
    lines.append(
        wrap(
            "Every path under `/v1` needs a key in the header `Authorization: Bearer sk-luthier-…` or `x-api-key`. "
            "Requests and responses are JSON unless noted otherwise. [Additions to OpenAI's API](../wire.md) lists the "
            "differences. A running server shows the same reference at `/docs`."
        )
        + "\n"
    )
    for tag, title in TAGS.items():
        rows = [
            [f"`{operation.method}`", f"`{operation.path}`", f"[{operation.title}]({operation.link})"]
            for operation in _list_operations()
            if operation.tag == tag
        ]
        lines += [f"## {title}\n", render_table(["method", "path", "operation"], rows)]
    lines += ["## Errors\n", "Errors have the same body at every operation; see [Errors](../errors.md).\n"]
    lines.append(render_table(["status", "meaning"], _list_common_errors()))
    return "\n".join(lines)


def render_tag_page(tag: str) -> str:
    lines = [f"# {TAGS[tag]}\n", _NOTE]
    for operation in _list_operations():
        if operation.tag == tag:
            lines.extend(_render_operation(operation))
    return "\n".join(lines)


def render_schemas_page() -> str:
    lines = ["# Schemas\n", _NOTE]
    for name, schema in sorted(_load_document()["components"]["schemas"].items(), key=lambda item: item[0].lower()):
        lines.append(f"## {name}\n")
        if "description" in schema:
            lines.append(to_markdown(schema["description"]) + "\n")
        if schema.get("properties"):
            lines.append(_render_fields(schema))
        elif schema.get("type") != "object":
            lines.append(describe_type(schema, "") + "\n")
    return "\n".join(lines)


def build_pages() -> dict[str, Callable[[], str]]:
    """Path under ``docs`` -> function that renders the page."""
    pages: dict[str, Callable[[], str]] = {"api/index.md": render_index, "api/schemas.md": render_schemas_page}
    return pages | {f"api/{tag}.md": partial(render_tag_page, tag) for tag in TAGS}


@cache
def _load_document() -> dict[str, Any]:
    document: dict[str, Any] = json.loads(OPENAPI_DOCUMENT.read_text())
    return document


def _list_operations() -> list[Operation]:
    paths = _load_document()["paths"]
    return [Operation(method.upper(), path, spec) for path, item in paths.items() for method, spec in item.items()]


def _list_common_errors() -> Iterator[list[str]]:
    """Status and meaning, from the first operation that documents each."""
    for status in _COMMON_STATUSES:
        described = (operation.spec["responses"].get(status) for operation in _list_operations())
        response = next(response for response in described if response is not None)
        yield [f"`{status}`", to_cell(response["description"])]


def _render_operation(operation: Operation) -> Iterator[str]:
    yield f"## {operation.title}\n"
    yield f"`{operation.method} {operation.path}`\n"
    if "description" in operation.spec:
        yield to_markdown(operation.spec["description"]) + "\n"
    parameters = operation.spec.get("parameters", [])
    if parameters:
        yield "**Parameters**\n"
        columns = ["parameter", "in", "type", "default", "description"]
        yield _render_table_without_empty_column(columns, [_render_parameter(parameter) for parameter in parameters])
    if "requestBody" in operation.spec:
        yield from _render_request_body(operation.spec["requestBody"])
    yield "**Responses**\n"
    yield _render_table_without_empty_column(["status", "body", "description"], list(_list_responses(operation)))
    errors = [f"`{status}`" for status in _COMMON_STATUSES[:-1] if _is_common_error(operation, status)]
    if errors:
        yield f"Errors: {', '.join(errors)}; see [Errors](index.md#errors).\n"


def _render_parameter(parameter: Mapping[str, Any]) -> list[str]:
    schema = parameter["schema"]
    default = "required" if parameter.get("required") else describe_default(schema)
    return [
        f"`{parameter['name']}`",
        parameter["in"],
        describe_type(schema),
        default,
        to_cell(parameter.get("description", "")),
    ]


def _render_request_body(body: Mapping[str, Any]) -> Iterator[str]:
    (media_type, content), *_ = body["content"].items()
    schema, name = _resolve_body(content["schema"])
    optional = "" if body.get("required") else ", optional"
    yield f"**Request body** ({f'{name}, ' if name else ''}`{media_type}`{optional})\n"
    yield _render_fields(schema)
    for example in schema.get("examples", [])[:1]:
        yield f"```json\n{json.dumps(example, indent=2, ensure_ascii=False)}\n```\n"


def _resolve_body(schema: Schema) -> tuple[Schema, str]:
    """Return the schema behind a reference, also behind a nullable one, and its link."""
    options = [option for option in schema.get("anyOf", [schema]) if option.get("type") != "null"]
    reference = options[0].get("$ref")
    if reference is None:
        return options[0], ""
    name = reference.rpartition("/")[2]
    return _load_document()["components"]["schemas"][name], describe_type(options[0])


def _render_fields(schema: Schema) -> str:
    """Render the fields as a table, the required ones first."""
    required = schema.get("required", [])
    fields = sorted(schema.get("properties", {}).items(), key=lambda item: item[0] not in required)
    rows = [
        [
            f"`{name}`",
            describe_type(field),
            "required" if name in required else describe_default(field),
            to_cell(field.get("description", "")),
        ]
        for name, field in fields
    ]
    return _render_table_without_empty_column(["field", "type", "default", "description"], rows)


def _render_table_without_empty_column(columns: list[str], rows: list[list[str]]) -> str:
    """Leave out the last column, the descriptions, if no row has one."""
    count = len(columns) if any(row[-1] for row in rows) else len(columns) - 1
    return render_table(columns[:count], [row[:count] for row in rows])


def _list_responses(operation: Operation) -> Iterator[list[str]]:
    for status, response in sorted(operation.spec["responses"].items()):
        if not _is_common_error(operation, status):
            bodies = [_describe_body(media, content) for media, content in response.get("content", {}).items()]
            description = response["description"].removesuffix(_DEFAULT_DESCRIPTION)
            yield [f"`{status}`", " or ".join(bodies), to_cell(description)]


def _describe_body(media_type: str, content: Mapping[str, Any]) -> str:
    return describe_type(content["schema"]) if content.get("schema") else f"`{media_type}`"


def _is_common_error(operation: Operation, status: str) -> bool:
    content = operation.spec["responses"].get(status, {}).get("content", {})
    reference = content.get("application/json", {}).get("schema", {}).get("$ref", "")
    return status in _COMMON_STATUSES and str(reference).endswith("/ErrorOut")

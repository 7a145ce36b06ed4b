"""Constraint of a chat request, from its ``response_format``, ``tools`` and ``tool_choice``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from inference.protocol.errors import EngineError
from inference.protocol.generation import ChatCompletionRequest
from inference.protocol.response_format import (
    MAX_SCHEMA_CHARACTERS,
    ObjectFormat,
    SchemaFormat,
    TextFormat,
    count_schema_characters,
)
from inference.structured_output.grammar import FieldSchema, StructuredOutput
from inference.structured_output.schema import forbid_extra_properties

MAX_TOTAL_SCHEMA_CHARACTERS = 4 * MAX_SCHEMA_CHARACTERS
"""Maximum characters of the JSON of all argument schemas of one request."""

_ANY_OBJECT_SCHEMA = {"type": "object"}
_NO_ARGUMENTS_SCHEMA = {"type": "object", "properties": {}, "additionalProperties": False}

_SCHEMA_BY_FORMAT: Mapping[type, Callable[[Any], Mapping[str, Any] | None]] = {
    TextFormat: lambda format: None,
    ObjectFormat: lambda format: _ANY_OBJECT_SCHEMA,
    SchemaFormat: lambda format: (
        _ANY_OBJECT_SCHEMA if format.json_schema.schema_ is None else format.json_schema.schema_
    ),
    type(None): lambda format: None,
}
"""Type of ``response_format`` -> schema of the output, or None for unconstrained text."""


def build_structured_output(request: ChatCompletionRequest) -> StructuredOutput | None:
    """Build the constraint of a request, or None for unconstrained output.

    Raises ``EngineError`` for tool parameters that are too large or not the schema of an object.
    """
    schema = _SCHEMA_BY_FORMAT[type(request.response_format)](request.response_format)
    if request.must_call:
        return StructuredOutput(tool_schemas=_build_tool_schemas(request))
    if schema is None:
        return None
    return StructuredOutput(
        FieldSchema(forbid_extra_properties(schema), "response_format"), _build_tool_schemas(request)
    )


def _build_tool_schemas(request: ChatCompletionRequest) -> dict[str, FieldSchema]:
    allowed_names = {tool.function.name for tool in request.allowed_tools}
    params = ((f"tools.{index}.function.parameters", tool) for index, tool in enumerate(request.offered_tools))
    schemas = {
        tool.function.name: FieldSchema(_build_arguments_schema(tool.function.parameters, param), param)
        for param, tool in params
        if tool.function.name in allowed_names
    }
    if sum(count_schema_characters(schema.schema) for schema in schemas.values()) > MAX_TOTAL_SCHEMA_CHARACTERS:
        message = (
            f"The parameter schemas of all allowed tools must have at most {MAX_TOTAL_SCHEMA_CHARACTERS:,} "
            "characters in total; allow fewer tools."
        )
        raise EngineError("invalid_request", message, "tools")
    return schemas


def _build_arguments_schema(parameters: Mapping[str, Any] | None, param: str) -> Mapping[str, Any]:
    if parameters is None:
        return _NO_ARGUMENTS_SCHEMA
    kind = parameters.get("type", "object")
    if kind != "object" and not (isinstance(kind, list) and "object" in kind):
        raise EngineError(
            "invalid_request", f"Invalid '{param}': arguments must be an object; set 'type' to 'object'.", param
        )
    if count_schema_characters(parameters) > MAX_SCHEMA_CHARACTERS:
        message = f"Invalid '{param}': the schema must have at most {MAX_SCHEMA_CHARACTERS:,} characters; shorten it."
        raise EngineError("invalid_request", message, param)
    return forbid_extra_properties({**parameters, "type": "object"})

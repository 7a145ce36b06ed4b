"""What a chat's ``response_format``, ``tools`` and ``tool_choice`` hold an answer to."""

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
"""Characters of the JSON of all schemas that one answer may choose from."""

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
"""Kind of ``response_format`` -> what it holds an answer to."""


def build_structured_output(request: ChatCompletionRequest) -> StructuredOutput | None:
    """None: the answer is held to nothing. Raises ``EngineError`` for parameters that are no schema of an object."""
    schema = _SCHEMA_BY_FORMAT[type(request.response_format)](request.response_format)
    if request.must_call:
        return StructuredOutput(tool_schemas=_build_tool_schemas(request))
    if schema is None:
        return None
    return StructuredOutput(
        FieldSchema(forbid_extra_properties(schema), "response_format"), _build_tool_schemas(request)
    )


def _build_tool_schemas(request: ChatCompletionRequest) -> dict[str, FieldSchema]:
    allowed = {tool.function.name for tool in request.allowed_tools}
    calls = {
        tool.function.name: FieldSchema(_build_arguments_schema(tool.function.parameters, param), param)
        for param, tool in ((f"tools.{at}.function.parameters", tool) for at, tool in enumerate(request.offered_tools))
        if tool.function.name in allowed
    }
    if sum(count_schema_characters(call.schema) for call in calls.values()) > MAX_TOTAL_SCHEMA_CHARACTERS:
        what = f"The schemas that a call is held to may have {MAX_TOTAL_SCHEMA_CHARACTERS:,} characters together; allow fewer tools."
        raise EngineError("invalid_request", what, "tools")
    return calls


def _build_arguments_schema(parameters: Mapping[str, Any] | None, param: str) -> Mapping[str, Any]:
    if parameters is None:
        return _NO_ARGUMENTS_SCHEMA
    kind = parameters.get("type", "object")
    if kind != "object" and not (isinstance(kind, list) and "object" in kind):
        raise EngineError(
            "invalid_request", f"Invalid '{param}': arguments are an object; say 'type': 'object'.", param
        )
    if count_schema_characters(parameters) > MAX_SCHEMA_CHARACTERS:
        what = (
            f"Invalid '{param}': a schema that a call is held to may have {MAX_SCHEMA_CHARACTERS:,} characters at most."
        )
        raise EngineError("invalid_request", what, param)
    return forbid_extra_properties({**parameters, "type": "object"})

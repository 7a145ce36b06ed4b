"""What a chat's ``response_format``, ``tools`` and ``tool_choice`` hold an answer to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from inference.protocol.errors import EngineError
from inference.protocol.generation import ChatRequest
from inference.protocol.response_format import MAX_SCHEMA, ObjectFormat, SchemaFormat, TextFormat, size
from inference.structured_output.grammar import FieldSchema, Wish
from inference.structured_output.schema import closed

MAX_SCHEMAS = 4 * MAX_SCHEMA
"""Characters of the JSON of all schemas that one answer may choose from."""

_ANY_OBJECT = {"type": "object"}
_NO_ARGUMENTS = {"type": "object", "properties": {}, "additionalProperties": False}

_SCHEMAS: Mapping[type, Callable[[Any], Mapping[str, Any] | None]] = {
    TextFormat: lambda format: None,
    ObjectFormat: lambda format: _ANY_OBJECT,
    SchemaFormat: lambda format: _ANY_OBJECT if format.json_schema.schema_ is None else format.json_schema.schema_,
    type(None): lambda format: None,
}
"""Kind of ``response_format`` -> what it holds an answer to."""


def wish_of(request: ChatRequest) -> Wish | None:
    """None: the answer is held to nothing. Raises ``EngineError`` for parameters that are no schema of an object."""
    schema = _SCHEMAS[type(request.response_format)](request.response_format)
    if request.must_call:
        return Wish(calls=_calls(request))
    if schema is None:
        return None
    return Wish(FieldSchema(closed(schema), "response_format"), _calls(request))


def _calls(request: ChatRequest) -> dict[str, FieldSchema]:
    allowed = {tool.function.name for tool in request.allowed}
    calls = {
        tool.function.name: FieldSchema(_arguments(tool.function.parameters, param), param)
        for param, tool in ((f"tools.{at}.function.parameters", tool) for at, tool in enumerate(request.offered))
        if tool.function.name in allowed
    }
    if sum(size(call.schema) for call in calls.values()) > MAX_SCHEMAS:
        what = f"The schemas that a call is held to may have {MAX_SCHEMAS:,} characters together; allow fewer tools."
        raise EngineError("invalid_request", what, "tools")
    return calls


def _arguments(parameters: Mapping[str, Any] | None, param: str) -> Mapping[str, Any]:
    if parameters is None:
        return _NO_ARGUMENTS
    kind = parameters.get("type", "object")
    if kind != "object" and not (isinstance(kind, list) and "object" in kind):
        raise EngineError(
            "invalid_request", f"Invalid '{param}': arguments are an object; say 'type': 'object'.", param
        )
    if size(parameters) > MAX_SCHEMA:
        what = f"Invalid '{param}': a schema that a call is held to may have {MAX_SCHEMA:,} characters at most."
        raise EngineError("invalid_request", what, param)
    return closed({**parameters, "type": "object"})

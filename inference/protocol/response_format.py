"""OpenAI's ``response_format`` and ``tool_choice``."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Discriminator, Field, Tag

from inference.protocol.fields import ShortKey, StrictModel, Text
from inference.protocol.messages import MAX_TOOLS, FunctionName

MAX_SCHEMA_CHARACTERS = 64 * 1024
"""Maximum characters of a schema's JSON."""


def count_schema_characters(schema: Any) -> int:
    """Count the characters of a schema's JSON."""
    return len(json.dumps(schema, ensure_ascii=False))


def _limit_schema_size(schema: dict[str, Any]) -> dict[str, Any]:
    if count_schema_characters(schema) > MAX_SCHEMA_CHARACTERS:
        raise ValueError(f"the schema must have at most {MAX_SCHEMA_CHARACTERS:,} characters; shorten it")
    return schema


Schema = Annotated[dict[ShortKey, Any], Field(max_length=64), AfterValidator(_limit_schema_size)]
"""JSON Schema. Only the engine can check that its keywords are supported."""


class NamedSchema(StrictModel):
    """Named JSON Schema of the output."""

    model_config = ConfigDict(serialize_by_alias=True)

    name: FunctionName
    description: Text | None = None
    """Accepted, no effect: it is not part of the prompt."""
    schema_: Schema | None = Field(default=None, alias="schema")
    """None: any JSON object."""
    strict: bool | None = None
    """Accepted, no effect: output is always constrained to the schema."""


class TextFormat(StrictModel):
    type: Literal["text"]


class ObjectFormat(StrictModel):
    """Constrains the output to one JSON object."""

    type: Literal["json_object"]


class SchemaFormat(StrictModel):
    """Constrains the output to a JSON Schema."""

    type: Literal["json_schema"]
    json_schema: NamedSchema


def _tag_by_type(value: Any) -> str | None:
    name = value.get("type") if isinstance(value, dict) else getattr(value, "type", None)
    return f"~{name}" if isinstance(name, str) else None


def _build_type_discriminator(*names: str) -> Discriminator:
    """Select a union's branch by the field ``type``.

    The ``~`` keeps tags out of the paths of errors.
    """
    return Discriminator(
        _tag_by_type,
        custom_error_type="invalid_value",
        custom_error_message=f"its 'type' must be one of {', '.join(names)}",
    )


ResponseFormat = Annotated[
    Annotated[TextFormat, Tag("~text")]
    | Annotated[ObjectFormat, Tag("~json_object")]
    | Annotated[SchemaFormat, Tag("~json_schema")],
    _build_type_discriminator("text", "json_object", "json_schema"),
]


class FunctionReference(StrictModel):
    name: FunctionName


class NamedTool(StrictModel):
    """Forces a call of one tool."""

    type: Literal["function"]
    function: FunctionReference


class AllowedTools(StrictModel):
    mode: Literal["auto", "required"]
    tools: list[NamedTool] = Field(min_length=1, max_length=MAX_TOOLS)


class AllowedToolChoice(StrictModel):
    """Restricts calls to some of the tools."""

    type: Literal["allowed_tools"]
    allowed_tools: AllowedTools


def _tag_tool_choice(value: Any) -> str | None:
    return "~word" if isinstance(value, str) else _tag_by_type(value)


ToolChoice = Annotated[
    Annotated[Literal["none", "auto", "required"], Tag("~word")]
    | Annotated[NamedTool, Tag("~function")]
    | Annotated[AllowedToolChoice, Tag("~allowed_tools")],
    Discriminator(
        _tag_tool_choice,
        custom_error_type="invalid_value",
        custom_error_message="it must be 'none', 'auto', 'required' or an object of type function or allowed_tools",
    ),
]


def get_tool_names(choice: ToolChoice | None) -> list[str] | None:
    """Return the names of the tools that ``choice`` names, or None."""
    match choice:
        case NamedTool():
            return [choice.function.name]
        case AllowedToolChoice():
            return [tool.function.name for tool in choice.allowed_tools.tools]
    return None


def is_call_required(choice: ToolChoice | None) -> bool:
    """True if the output must be a tool call."""
    match choice:
        case AllowedToolChoice():
            return choice.allowed_tools.mode == "required"
        case NamedTool():
            return True
    return choice == "required"

"""Schemas of OpenAI's messages and tools, and conversion for chat templates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from training.readers.strict_json import InvalidInput, decode
from training.tasks.chat_format.reasoning import split_reasoning

MAX_TOOLS = 128


def _join_text_parts(content: object) -> object:
    """Join the text parts of content that is a list."""
    if not isinstance(content, list):
        return content
    for part in content:
        if not (isinstance(part, dict) and part.keys() == {"type", "text"} and part["type"] == "text"):
            raise PydanticCustomError("wrong_type", "Each part must be {{'type': 'text', 'text': …}}.")
        if not isinstance(part["text"], str):
            raise PydanticCustomError("wrong_type", "A part's text must be a string.")
    return "".join(part["text"] for part in content)


def _parse_arguments(value: object) -> object:
    """Parse the JSON string that holds the arguments of a call."""
    if not isinstance(value, str):
        raise PydanticCustomError("wrong_type", "Must be a string that holds a JSON object.")
    try:
        arguments = decode(value)
    except InvalidInput as error:
        raise PydanticCustomError(
            "arguments", "The string must hold a JSON object: {reason}", {"reason": error.message}
        ) from error
    if not isinstance(arguments, dict):
        raise PydanticCustomError("arguments", 'The string must hold a JSON object, such as "{{}}".')
    return arguments


def _require_empty(value: object) -> object:
    if value:
        raise PydanticCustomError(
            "unread", "This field cannot be trained on; remove it, or move its text to 'content'."
        )
    return None


TextContent = Annotated[str, BeforeValidator(_join_text_parts)]
FunctionName = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]
CallId = Annotated[str, StringConstraints(min_length=1, max_length=256)]
UnsupportedField = Annotated[None, BeforeValidator(_require_empty)]
"""Field of OpenAI's responses that messages copied from a response contain. It must be empty."""


class _StrictModel(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class FunctionCall(_StrictModel):
    name: FunctionName
    arguments: Annotated[dict[str, Any], BeforeValidator(_parse_arguments)]
    """A JSON string in the row, stored as the parsed object."""


class ToolCall(_StrictModel):
    id: CallId
    type: Literal["function"] = "function"
    function: FunctionCall


class Function(_StrictModel):
    name: FunctionName
    description: str | None = None
    parameters: dict[str, Any] | None = None
    """JSON Schema of the arguments. None if the function has no arguments."""
    strict: bool | None = None
    """Accepted without effect: it concerns decoding."""


class Tool(_StrictModel):
    type: Literal["function"] = "function"
    function: Function


class Message(_StrictModel):
    """A message of a conversation."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    """Templates call ``developer`` ``system``. ``function`` is the older name of ``tool``."""
    content: TextContent | None = None
    reasoning_content: str | None = None
    """Reasoning before the answer of an assistant. ``<think>`` tags in the content become this."""
    reasoning: str | None = None
    """Other name of ``reasoning_content``."""
    weight: Literal[0, 1] = 1
    """0 excludes this message from the targets; the model still reads it."""
    name: str | None = None
    tool_calls: Annotated[list[ToolCall], Field(max_length=MAX_TOOLS)] | None = None
    function_call: FunctionCall | None = None
    """Older form of a single call."""
    tool_call_id: CallId | None = None
    """Id of the call whose result a ``tool`` message holds."""
    refusal: UnsupportedField = None
    audio: UnsupportedField = None
    annotations: UnsupportedField = None

    @model_validator(mode="after")
    def _extract_reasoning(self) -> Message:
        """Give reasoning one form. Messages that are wrong stay as they are."""
        if self.role == "assistant":
            if self.reasoning_content is None and self.reasoning is not None:
                self.reasoning_content, self.reasoning = self.reasoning, None
            parts = split_reasoning(self.content) if self.content and self.reasoning_content is None else None
            if parts:
                self.reasoning_content, self.content = parts
            if self.reasoning_content is not None:
                self.reasoning_content = self.reasoning_content.strip() or None
        return self

    def list_tool_calls(self, index: int) -> list[ToolCall]:
        """Return the calls in either form.

        ``index`` makes the ids of ``function_call`` calls unique, because they have none.
        """
        if self.function_call is None:
            return self.tool_calls or []
        # Mistral's templates accept only ids of nine letters and digits.
        return [ToolCall.model_construct(id=f"call{index:05d}", type="function", function=self.function_call)]


class Conversation(_StrictModel):
    """Messages and the tools that the model may call."""

    messages: list[Message] = Field(min_length=1)
    tools: Annotated[list[Tool], Field(max_length=MAX_TOOLS)] | None = None
    functions: Annotated[list[Function], Field(max_length=MAX_TOOLS)] | None = None
    """Older form of ``tools``."""
    parallel_tool_calls: bool | None = None
    """Accepted without effect: the calls in the data are trained as they are."""

    @property
    def all_tools(self) -> list[Tool]:
        """Tools in either form."""
        return self.tools or [Tool(function=function) for function in self.functions or []]


_TEMPLATE_ROLES = {"developer": "system", "function": "tool"}


def to_template_messages(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Convert messages to the form that chat templates read.

    Arguments of ``tool_calls`` become objects. Messages of tools get the id and name of their call.
    """
    turns = []
    names: dict[str, str] = {}
    latest_id = ""
    for index, message in enumerate(messages):
        calls = message.list_tool_calls(index)
        turn: dict[str, Any] = {
            "role": _TEMPLATE_ROLES.get(message.role, message.role),
            "content": message.content or "",
        }
        if message.reasoning_content:
            turn["reasoning_content"] = message.reasoning_content
        if calls:
            turn["tool_calls"] = [call.model_dump() for call in calls]
            names |= {call.id: call.function.name for call in calls}
            latest_id = calls[-1].id
        if turn["role"] == "tool":
            call_id = message.tool_call_id or latest_id
            turn |= {"tool_call_id": call_id, "name": names.get(call_id, message.name or "")}
        turns.append(turn)
    return turns


def to_template_tools(tools: Sequence[Tool]) -> list[dict[str, Any]]:
    """Convert tools to the form that chat templates read.

    The order of fields is fixed, so that training and serving render the same prompt.
    """
    no_parameters = {"type": "object", "properties": {}}
    return [
        {
            "type": "function",
            "function": {"name": tool.function.name}
            | ({"description": tool.function.description} if tool.function.description is not None else {})
            | {"parameters": no_parameters if tool.function.parameters is None else tool.function.parameters},
        }
        for tool in tools
    ]

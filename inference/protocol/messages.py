"""OpenAI's chat messages and tools."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints, Tag, ValidationInfo, field_validator
from pydantic_core import PydanticKnownError

from inference.protocol.fields import (
    TEXT_OR_LIST_DISCRIMINATOR,
    ShortKey,
    ShortText,
    StrictModel,
    Text,
    reject_unsupported,
)
from training.readers.strict_json import InvalidInput, decode

MAX_TOOLS = 128

FunctionName = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]
CallId = Annotated[str, StringConstraints(min_length=1, max_length=256)]


class Function(StrictModel):
    name: FunctionName
    description: Text | None = None
    parameters: Annotated[dict[ShortKey, Any] | None, Field(max_length=64)] = None
    """JSON Schema of the arguments. None: the function has no arguments."""
    strict: bool | None = None
    """Accepted, no effect: arguments are constrained to the schema if ``tool_choice`` forces a
    call, and only then."""


class Tool(StrictModel):
    """A function that the model may call."""

    type: Literal["function"]
    function: Function


class FunctionCall(StrictModel):
    name: FunctionName
    arguments: Text
    """JSON object as a string."""

    @field_validator("arguments")
    @classmethod
    def _require_json_object(cls, value: str) -> str:
        try:
            is_object = isinstance(decode(value), dict)
        except InvalidInput as error:
            raise ValueError(f"it must contain a JSON object: {error.message}") from error
        if not is_object:
            raise ValueError("it must contain a JSON object, such as {}")
        return value


class ToolCall(StrictModel):
    id: CallId
    type: Literal["function"]
    function: FunctionCall


class TextPart(StrictModel):
    type: Literal["text"]
    text: Text


class ChatMessage(StrictModel):
    """One message of a chat.

    Clients may send back all fields of a message that the server returned.
    """

    role: Literal["system", "developer", "user", "assistant", "tool"]
    tool_calls: Annotated[list[ToolCall], Field(max_length=MAX_TOOLS)] | None = None
    """Tool calls of an assistant's message."""
    tool_call_id: CallId | None = Field(default=None, validate_default=True)
    """Id of the tool call whose result a ``tool`` message contains."""
    content: (
        Annotated[
            Annotated[Text, Tag("~text")]
            | Annotated[list[TextPart], Field(min_length=1, max_length=256), Tag("~list")],
            TEXT_OR_LIST_DISCRIMINATOR,
        ]
        | None
    ) = Field(default=None, validate_default=True)
    """Optional if there are ``tool_calls``."""
    reasoning_content: Text | None = None
    """Reasoning of an assistant's message. Templates render it until the next user message."""
    reasoning: Text | None = None
    """Other name of ``reasoning_content``."""
    name: ShortText | None = None
    refusal: Text | None = None
    annotations: Annotated[list[Any], Field(max_length=256)] | None = None
    audio: Any = None
    function_call: Any = None

    _reject_unsupported = field_validator("audio", "function_call")(reject_unsupported)

    @field_validator("tool_calls")
    @classmethod
    def _validate_tool_calls(cls, value: list[ToolCall] | None, info: ValidationInfo) -> list[ToolCall] | None:
        if value and info.data.get("role", "assistant") != "assistant":
            raise ValueError("only a message with role 'assistant' may have tool calls; remove the field")
        return value

    @field_validator("tool_call_id")
    @classmethod
    def _validate_tool_call_id(cls, value: str | None, info: ValidationInfo) -> str | None:
        role = info.data.get("role")
        if role == "tool" and value is None:
            raise PydanticKnownError("missing")
        if role not in ("tool", None) and value is not None:
            raise ValueError("only a message with role 'tool' may have this field; remove it")
        return value

    @field_validator("content")
    @classmethod
    def _require_content(cls, value: Any, info: ValidationInfo) -> Any:
        # An invalid field is not in `data`.
        if value is None and not info.data.get("tool_calls", True):
            raise PydanticKnownError("missing")
        return value

    @property
    def text(self) -> str:
        """The content as one string."""
        if isinstance(self.content, list):
            return "".join(part.text for part in self.content)
        return self.content or ""

    def to_message_dict(self) -> dict[str, Any]:
        """Return the input of :class:`training.tasks.chat_format.rows.Message`.

        ``developer`` is OpenAI's newer name of the role ``system``.
        """
        message: dict[str, Any] = {"role": "system" if self.role == "developer" else self.role, "content": self.text}
        reasoning = self.reasoning_content or self.reasoning
        if reasoning and self.role == "assistant":
            message["reasoning_content"] = reasoning
        if self.tool_calls:
            message["tool_calls"] = [call.model_dump() for call in self.tool_calls]
        if self.tool_call_id is not None:
            message["tool_call_id"] = self.tool_call_id
        return message


def validate_tool_messages(messages: Sequence[ChatMessage]) -> None:
    """Raise ``ValueError`` if a ``tool`` message answers no tool call of an earlier message."""
    call_ids: set[str] = set()
    for index, message in enumerate(messages):
        call_ids |= {call.id for call in message.tool_calls or ()}
        if message.tool_call_id is not None and message.tool_call_id not in call_ids:
            raise ValueError(f"'tool_call_id' of message {index} must be the id of a tool call in an earlier message")

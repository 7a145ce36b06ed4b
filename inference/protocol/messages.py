"""OpenAI's messages and tools, as a chat's body has them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints, Tag, ValidationInfo, field_validator
from pydantic_core import PydanticKnownError

from inference.protocol.fields import JSON_TYPE_DISCRIMINATOR, FieldName, Label, StrictModel, Text, reject_unsupported
from training.readers.strict_json import InvalidInput, decode

MAX_TOOLS = 128

FunctionName = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]
CallId = Annotated[str, StringConstraints(min_length=1, max_length=256)]


class Function(StrictModel):
    name: FunctionName
    description: Text | None = None
    parameters: Annotated[dict[FieldName, Any] | None, Field(max_length=64)] = None
    """JSON Schema of the arguments; none: it takes none."""
    strict: bool | None = None
    """Accepted, no effect: arguments are held to the schema where ``tool_choice`` forces a call, and only there."""


class Tool(StrictModel):
    """A function that the model may call."""

    type: Literal["function"]
    function: Function


class FunctionCall(StrictModel):
    name: FunctionName
    arguments: Text
    """A string that holds a JSON object."""

    @field_validator("arguments")
    @classmethod
    def _require_json_object(cls, value: str) -> str:
        try:
            whole = isinstance(decode(value), dict)
        except InvalidInput as error:
            raise ValueError(f"it must hold a JSON object: {error.message}") from error
        if not whole:
            raise ValueError("it must hold a JSON object, such as {}")
        return value


class ToolCall(StrictModel):
    id: CallId
    type: Literal["function"]
    function: FunctionCall


class TextPart(StrictModel):
    type: Literal["text"]
    text: Text


class ChatMessage(StrictModel):
    """One turn. What an answer's message holds besides role and content may be sent back as it came."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    tool_calls: Annotated[list[ToolCall], Field(max_length=MAX_TOOLS)] | None = None
    """What an assistant called."""
    tool_call_id: CallId | None = Field(default=None, validate_default=True)
    """The call that a ``tool`` message answers."""
    content: (
        Annotated[
            Annotated[Text, Tag("~text")]
            | Annotated[list[TextPart], Field(min_length=1, max_length=256), Tag("~list")],
            JSON_TYPE_DISCRIMINATOR,
        ]
        | None
    ) = Field(default=None, validate_default=True)
    """May be absent where there are ``tool_calls``."""
    name: Label | None = None
    refusal: Text | None = None
    annotations: Annotated[list[Any], Field(max_length=256)] | None = None
    audio: Any = None
    function_call: Any = None

    _reject_unsupported = field_validator("audio", "function_call")(reject_unsupported)

    @field_validator("tool_calls")
    @classmethod
    def _validate_tool_calls(cls, value: list[ToolCall] | None, info: ValidationInfo) -> list[ToolCall] | None:
        if value and info.data.get("role", "assistant") != "assistant":
            raise ValueError("only an assistant calls tools")
        return value

    @field_validator("tool_call_id")
    @classmethod
    def _validate_tool_call_id(cls, value: str | None, info: ValidationInfo) -> str | None:
        role = info.data.get("role")
        if role == "tool" and value is None:
            raise PydanticKnownError("missing")
        if role not in ("tool", None) and value is not None:
            raise ValueError("only a tool's message answers a call")
        return value

    @field_validator("content")
    @classmethod
    def _require_content(cls, value: Any, info: ValidationInfo) -> Any:
        # A field that is wrong itself is not in `data`.
        if value is None and not info.data.get("tool_calls", True):
            raise PydanticKnownError("missing")
        return value

    @property
    def text(self) -> str:
        """The content, text parts joined."""
        if isinstance(self.content, list):
            return "".join(part.text for part in self.content)
        return self.content or ""

    def to_message_dict(self) -> dict[str, Any]:
        """As :class:`training.tasks.chat_format.rows.Message` reads it; ``developer`` is today's name of ``system``."""
        turn: dict[str, Any] = {"role": "system" if self.role == "developer" else self.role, "content": self.text}
        if self.tool_calls:
            turn["tool_calls"] = [call.model_dump() for call in self.tool_calls]
        if self.tool_call_id is not None:
            turn["tool_call_id"] = self.tool_call_id
        return turn


def validate_tool_messages(messages: Sequence[ChatMessage]) -> None:
    """Raises ``ValueError`` for a tool's message that answers no call."""
    called: set[str] = set()
    for index, message in enumerate(messages):
        called |= {call.id for call in message.tool_calls or ()}
        if message.tool_call_id is not None and message.tool_call_id not in called:
            raise ValueError(f"'tool_call_id' of message {index} is of no call that an assistant makes before it")

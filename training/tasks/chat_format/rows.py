"""OpenAI's messages and tools as rows hold them, and as chat templates know them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints
from pydantic_core import PydanticCustomError

from training.readers.strict_json import InvalidInput, decode
from training.tasks.base import RowIssue

MAX_TOOLS = 128


def _join_text_parts(content: object) -> object:
    """Content is a string or a list of text parts, which are joined."""
    if not isinstance(content, list):
        return content
    for part in content:
        if not (isinstance(part, dict) and part.keys() == {"type", "text"} and part["type"] == "text"):
            raise PydanticCustomError("wrong_type", "Each part must be {{'type': 'text', 'text': …}}.")
        if not isinstance(part["text"], str):
            raise PydanticCustomError("wrong_type", "A part's text must be a string.")
    return "".join(part["text"] for part in content)


def _parse_arguments(value: object) -> object:
    """Arguments come as the text that the model wrote."""
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
        raise PydanticCustomError("unread", "It is not learnt here; remove it, or put what is said into 'content'.")
    return None


TextContent = Annotated[str, BeforeValidator(_join_text_parts)]
FunctionName = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]
CallId = Annotated[str, StringConstraints(min_length=1, max_length=256)]
UnsupportedField = Annotated[None, BeforeValidator(_require_empty)]
"""A field of OpenAI's answers that a message sent back as it came has: empty, or not fit for training."""


class _StrictModel(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class FunctionCall(_StrictModel):
    name: FunctionName
    arguments: Annotated[dict[str, Any], BeforeValidator(_parse_arguments)]
    """Written as a string of JSON, held as what it says."""


class ToolCall(_StrictModel):
    id: CallId
    type: Literal["function"] = "function"
    function: FunctionCall


class Function(_StrictModel):
    name: FunctionName
    description: str | None = None
    parameters: dict[str, Any] | None = None
    """JSON Schema of the arguments; none: it takes none."""
    strict: bool | None = None
    """Accepted, no effect: it is about how an answer is decoded."""


class Tool(_StrictModel):
    type: Literal["function"] = "function"
    function: Function


class Message(_StrictModel):
    """One turn."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    """``developer`` is what templates call ``system``, ``function`` the older name of ``tool``."""
    content: TextContent | None = None
    weight: Literal[0, 1] = 1
    """0: the model reads this answer but does not learn it."""
    name: str | None = None
    tool_calls: Annotated[list[ToolCall], Field(max_length=MAX_TOOLS)] | None = None
    function_call: FunctionCall | None = None
    """The older form of one call."""
    tool_call_id: CallId | None = None
    """The call that a ``tool`` message answers."""
    refusal: UnsupportedField = None
    audio: UnsupportedField = None
    annotations: UnsupportedField = None

    def list_tool_calls(self, index: int) -> list[ToolCall]:
        """In either form. ``place`` tells the ids of older calls apart, which had none."""
        if self.function_call is None:
            return self.tool_calls or []
        # Mistral's templates take ids of nine letters and digits only.
        return [ToolCall.model_construct(id=f"call{index:05d}", type="function", function=self.function_call)]


class Conversation(_StrictModel):
    """Messages, and the tools that the model may call in answering them."""

    messages: list[Message] = Field(min_length=1)
    tools: Annotated[list[Tool], Field(max_length=MAX_TOOLS)] | None = None
    functions: Annotated[list[Function], Field(max_length=MAX_TOOLS)] | None = None
    """The older form of ``tools``."""
    parallel_tool_calls: bool | None = None
    """Accepted, no effect: the calls of the data are learnt as they are."""

    @property
    def all_tools(self) -> list[Tool]:
        """In either form."""
        return self.tools or [Tool(function=function) for function in self.functions or []]


class _MessageRule(NamedTuple):
    is_broken: Callable[[Message], bool]
    code: str
    field: str
    message: str


def _is_silent(message: Message) -> bool:
    return message.content is None and not message.list_tool_calls(0)


_RULES = (
    _MessageRule(
        lambda message: _is_silent(message) and "content" not in message.model_fields_set,
        "missing_field",
        "content",
        "The field is missing; add it (only an assistant that calls tools may be silent).",
    ),
    _MessageRule(
        lambda message: _is_silent(message) and "content" in message.model_fields_set,
        "wrong_type",
        "content",
        "Must be a string (only an assistant that calls tools may be silent).",
    ),
    _MessageRule(
        lambda message: (
            message.role == "assistant"
            and message.content is not None
            and not message.content.strip()
            and not message.list_tool_calls(0)
        ),
        "empty_content",
        "content",
        "The answer is empty; write one.",
    ),
    _MessageRule(
        lambda message: message.role != "assistant" and bool(message.list_tool_calls(0)),
        "wrong_value",
        "tool_calls",
        "Only an assistant calls tools; remove the call, or mend the role.",
    ),
    _MessageRule(
        lambda message: bool(message.tool_calls) and message.function_call is not None,
        "wrong_value",
        "function_call",
        "The call stands in 'tool_calls' and in the older 'function_call'; keep 'tool_calls'.",
    ),
    _MessageRule(
        lambda message: message.role == "tool" and message.tool_call_id is None,
        "missing_field",
        "tool_call_id",
        "The field is missing; add the id of the call that this message answers.",
    ),
)


def check_conversation(conversation: Conversation, field_prefix: str = "") -> Iterator[RowIssue]:
    """What the schema cannot say. ``place`` stands before the fields' names."""
    if conversation.tools and conversation.functions:
        yield RowIssue(
            "wrong_value", f"{field_prefix}functions", "The row has 'tools' and the older 'functions'; keep 'tools'."
        )
    unusual = _select_checkable(conversation.messages)
    yield from _check_rules(unusual, f"{field_prefix}messages")
    called: set[str] = set()
    for index, message in unusual:
        called |= {call.id for call in message.list_tool_calls(index)}
        if message.tool_call_id is not None and message.tool_call_id not in called:
            yield RowIssue(
                "wrong_value",
                f"{field_prefix}messages[{index}].tool_call_id",
                "No assistant message before this one makes a call of this id; give the id of one that does.",
            )
        if message.role == "function" and not called:
            yield RowIssue(
                "wrong_value",
                f"{field_prefix}messages[{index}].role",
                "No assistant message before this one has a 'function_call'; add the call that it answers.",
            )


def check_messages(messages: Sequence[Message], field: str) -> Iterator[RowIssue]:
    """Each by itself."""
    yield from _check_rules(_select_checkable(messages), field)


def _select_checkable(messages: Sequence[Message]) -> list[tuple[int, Message]]:
    """With their places, those that are more than words: no rule can be broken by the others, which nearly all are."""
    return [
        (index, message)
        for index, message in enumerate(messages)
        if not message.content
        or message.content.isspace()
        or message.tool_calls is not None
        or message.function_call is not None
        or message.tool_call_id is not None
        or message.role in ("tool", "function")
    ]


def _check_rules(messages: Sequence[tuple[int, Message]], field: str) -> Iterator[RowIssue]:
    for index, message in messages:
        for rule in _RULES:
            if rule.is_broken(message):
                yield RowIssue(rule.code, f"{field}[{index}].{rule.field}", rule.message)


_TEMPLATE_ROLES = {"developer": "system", "function": "tool"}


def to_template_messages(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Role, content, of an assistant its ``tool_calls`` (arguments as objects), of a tool the call it answers."""
    turns = []
    names: dict[str, str] = {}
    latest = ""
    for index, message in enumerate(messages):
        calls = message.list_tool_calls(index)
        turn: dict[str, Any] = {
            "role": _TEMPLATE_ROLES.get(message.role, message.role),
            "content": message.content or "",
        }
        if calls:
            turn["tool_calls"] = [call.model_dump() for call in calls]
            names |= {call.id: call.function.name for call in calls}
            latest = calls[-1].id
        if turn["role"] == "tool":
            answered = message.tool_call_id or latest
            turn |= {"tool_call_id": answered, "name": names.get(answered, message.name or "")}
        turns.append(turn)
    return turns


def to_template_tools(tools: Sequence[Tool]) -> list[dict[str, Any]]:
    """The fields in one order, whatever the row's, so that training and serving write the same prompt."""
    nothing = {"type": "object", "properties": {}}
    return [
        {
            "type": "function",
            "function": {"name": tool.function.name}
            | ({"description": tool.function.description} if tool.function.description is not None else {})
            | {"parameters": nothing if tool.function.parameters is None else tool.function.parameters},
        }
        for tool in tools
    ]

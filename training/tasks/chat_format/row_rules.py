"""Rules for messages and conversations that their schemas cannot express."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from training.tasks.base import RowIssue
from training.tasks.chat_format.reasoning import CLOSE_TAG, OPEN_TAG, has_stray_tag
from training.tasks.chat_format.rows import Conversation, Message


class _MessageRule(NamedTuple):
    is_broken: Callable[[Message], bool]
    code: str
    field: str
    message: str


def _has_reasoning(message: Message) -> bool:
    return message.reasoning_content is not None or message.reasoning is not None


def _is_without_output(message: Message) -> bool:
    return message.content is None and not message.list_tool_calls(0)


_RULES = (
    _MessageRule(
        lambda message: _is_without_output(message) and "content" not in message.model_fields_set,
        "missing_field",
        "content",
        "The field is missing; add it (only an assistant message with tool calls may omit it).",
    ),
    _MessageRule(
        lambda message: _is_without_output(message) and "content" in message.model_fields_set,
        "wrong_type",
        "content",
        "Must be a string (only an assistant message with tool calls may have null).",
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
        "The answer is empty; add text or remove the row.",
    ),
    _MessageRule(
        lambda message: message.role != "assistant" and bool(message.list_tool_calls(0)),
        "wrong_value",
        "tool_calls",
        "Only an assistant message can call tools; remove the call or correct the role.",
    ),
    _MessageRule(
        lambda message: bool(message.tool_calls) and message.function_call is not None,
        "wrong_value",
        "function_call",
        "The message has 'tool_calls' and the older 'function_call'; remove 'function_call'.",
    ),
    _MessageRule(
        lambda message: message.reasoning is not None and message.role == "assistant",
        "wrong_value",
        "reasoning",
        "The message has 'reasoning_content' and 'reasoning', which is the same; remove one of them.",
    ),
    _MessageRule(
        lambda message: message.role != "assistant" and _has_reasoning(message),
        "wrong_value",
        "reasoning_content",
        "Only an assistant message can have reasoning; remove it or correct the role.",
    ),
    _MessageRule(
        lambda message: has_stray_tag(message.reasoning_content or "") or OPEN_TAG in (message.reasoning_content or ""),
        "wrong_value",
        "reasoning_content",
        f"The reasoning contains '{OPEN_TAG}' or '{CLOSE_TAG}', which begin and end it; remove the tags.",
    ),
    _MessageRule(
        lambda message: (
            message.role == "assistant"
            and bool(message.reasoning_content)
            and (message.content or "").lstrip().startswith(OPEN_TAG)
        ),
        "wrong_value",
        "content",
        f"The message has 'reasoning_content', and its content begins with '{OPEN_TAG}'; give the reasoning once.",
    ),
    _MessageRule(
        lambda message: message.role == "assistant" and has_stray_tag(message.content or ""),
        "wrong_value",
        "content",
        f"The content has '{OPEN_TAG}' without '{CLOSE_TAG}', or the reverse. Put the reasoning between both at "
        "the start, or into 'reasoning_content'.",
    ),
    _MessageRule(
        lambda message: message.role == "tool" and message.tool_call_id is None,
        "missing_field",
        "tool_call_id",
        "The field is missing; add the id of the call that produced this result.",
    ),
)


def check_conversation(conversation: Conversation, field_prefix: str = "") -> Iterator[RowIssue]:
    """Yield the issues that the schema cannot express.

    ``field_prefix`` precedes the names of fields.
    """
    if conversation.tools and conversation.functions:
        yield RowIssue(
            "wrong_value",
            f"{field_prefix}functions",
            "The row has 'tools' and the older 'functions'; remove 'functions'.",
        )
    candidates = _select_checkable(conversation.messages)
    yield from _check_rules(candidates, f"{field_prefix}messages")
    call_ids: set[str] = set()
    for index, message in candidates:
        call_ids |= {call.id for call in message.list_tool_calls(index)}
        if message.tool_call_id is not None and message.tool_call_id not in call_ids:
            yield RowIssue(
                "wrong_value",
                f"{field_prefix}messages[{index}].tool_call_id",
                "No earlier assistant message has a call with this id; use the id of an earlier call.",
            )
        if message.role == "function" and not call_ids:
            yield RowIssue(
                "wrong_value",
                f"{field_prefix}messages[{index}].role",
                "No earlier assistant message has a 'function_call'; add the call that produced this result.",
            )


def check_messages(messages: Sequence[Message], field: str) -> Iterator[RowIssue]:
    """Yield the issues of messages that do not depend on other messages."""
    yield from _check_rules(_select_checkable(messages), field)


def _select_checkable(messages: Sequence[Message]) -> list[tuple[int, Message]]:
    """Return the messages, with their indices, that can break a rule.

    Nearly all messages are plain text and can break none, so this keeps the check fast.
    """
    return [
        (index, message)
        for index, message in enumerate(messages)
        if not message.content
        or message.content.isspace()
        or message.tool_calls is not None
        or message.function_call is not None
        or message.tool_call_id is not None
        or message.role in ("tool", "function")
        or _has_reasoning(message)
        or OPEN_TAG in message.content
        or CLOSE_TAG in message.content
    ]


def _check_rules(messages: Sequence[tuple[int, Message]], field: str) -> Iterator[RowIssue]:
    for index, message in messages:
        for rule in _RULES:
            if rule.is_broken(message):
                yield RowIssue(rule.code, f"{field}[{index}].{rule.field}", rule.message)

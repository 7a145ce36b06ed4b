"""Conversations in the form that chat templates read, and checks that a template renders them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from jinja2 import TemplateError

from training.tasks.support.special_tokens import MARKER_CHARACTER

Turn = dict[str, Any]
"""``{"role": "system" | "user" | "assistant" | "tool", "content": …}``.

``tool_calls`` have OpenAI's form, except that ``arguments`` is an object. ``reasoning_content`` is
absent if a message has no reasoning.
"""
ToolSchema = dict[str, Any]
"""``{"type": "function", "function": {"name", "description", "parameters"}}``."""


class FieldOmitted(TemplateError):
    """The template does not render the value of ``field``."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


class TemplateConversation(NamedTuple):
    """Turns and tools to render."""

    turns: list[Turn]
    tools: list[ToolSchema]

    def truncate(self, count: int) -> TemplateConversation:
        return TemplateConversation(self.turns[:count], self.tools)

    def replace_turn(self, index: int, turn: Turn) -> TemplateConversation:
        """Return a copy in which the turn at ``index`` is replaced."""
        return TemplateConversation([*self.turns[:index], turn, *self.turns[index + 1 :]], self.tools)


def check_tools(conversation: TemplateConversation, render: Callable[[TemplateConversation], str]) -> None:
    """Raise ``FieldOmitted`` if the template drops the tools or a call."""
    if conversation.tools and render(conversation) == render(TemplateConversation(conversation.turns, [])):
        raise FieldOmitted(
            "tools",
            "It does not support tools. Choose a base model whose template does, or describe the tools in a "
            "system message.",
        )
    marked = conversation
    marks: list[tuple[str, str]] = []
    for index, turn in enumerate(conversation.turns):
        if turn.get("tool_calls"):
            names = [
                f"{MARKER_CHARACTER}{index}.{number}{MARKER_CHARACTER}" for number in range(len(turn["tool_calls"]))
            ]
            marked = marked.replace_turn(index, _rename_calls(turn, names))
            marks += [(name, f"messages[{index}].tool_calls[{number}]") for number, name in enumerate(names)]
    text = render(marked) if marks else ""
    for mark, field in marks:
        if mark not in text:
            raise FieldOmitted(
                field,
                "It does not render this call. Choose a base model whose template renders calls, or write the "
                "call into 'content'.",
            )


def check_content_of_call(
    conversation: TemplateConversation, index: int, render: Callable[[TemplateConversation], str], is_reasoning: bool
) -> None:
    """Raise ``FieldOmitted`` if the template drops the content of the turn with calls at ``index``.

    ``is_reasoning``: the template renders such content as reasoning.
    """
    marked = conversation.replace_turn(index, {**conversation.turns[index], "content": MARKER_CHARACTER})
    if is_reasoning or MARKER_CHARACTER not in render(marked.truncate(index + 1)):
        raise FieldOmitted(
            f"messages[{index}].content",
            "It does not render content beside calls. Remove the content of this message, or move it to "
            "'reasoning_content' if the base model reasons.",
        )


def _rename_calls(turn: Turn, names: Sequence[str]) -> Turn:
    """Return a copy of the turn with other names for its calls."""
    calls = [
        {**call, "function": {**call["function"], "name": name}}
        for call, name in zip(turn["tool_calls"], names, strict=True)
    ]
    return {**turn, "tool_calls": calls}


CallEncoder = Callable[[Turn], Turn]


def _encode_arguments(turn: Turn) -> Turn:
    """Encode arguments as JSON text."""
    calls = [
        {**call, "function": {**call["function"], "arguments": json.dumps(arguments, ensure_ascii=False)}}
        for call in turn["tool_calls"]
        for arguments in [call["function"]["arguments"]]
    ]
    return {**turn, "tool_calls": calls}


_CALL_ENCODERS: tuple[CallEncoder, ...] = (
    lambda turn: turn,
    lambda turn: {**_encode_arguments(turn), "content": turn["content"] or None},
    _encode_arguments,
)
"""Forms of a call that templates expect.

The arguments are an object (Qwen, Llama, Mistral) or JSON text (DeepSeek). Content is empty or
absent.
"""


def find_call_encoder(render: Callable[[list[Turn], list[ToolSchema]], str]) -> CallEncoder:
    """Return the first of ``_CALL_ENCODERS`` with which the template renders a complete call."""
    call = {"id": "call00000", "type": "function", "function": {"name": "a", "arguments": {"a": MARKER_CHARACTER}}}
    turn = {"role": "assistant", "content": "", "tool_calls": [call]}
    tools = [{"type": "function", "function": {"name": "a", "description": "a", "parameters": {}}}]
    for encoder in _CALL_ENCODERS:
        try:
            text = render([{"role": "user", "content": "a"}, encoder(turn)], tools)
        except TemplateError:
            continue
        # Single quotes indicate Python's repr of an object instead of JSON.
        if MARKER_CHARACTER in text and f"'{MARKER_CHARACTER}'" not in text:
            return encoder
    return _CALL_ENCODERS[0]

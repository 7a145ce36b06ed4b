"""Conversations rendered with the base model's chat template, and the spans of their answers.

The rendered text is tokenized once. A control token's name inside a message, a call, or a tool is
plain text: a token boundary is inserted into the name before rendering, so no content can end its
own turn or begin another.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, NamedTuple

from jinja2 import TemplateError

from training.tasks.support.special_tokens import (
    MARKER_CHARACTER,
    MessageSpan,
    RenderedText,
    TokenizedText,
    compile_names,
    escape_special_tokens,
    split_at_boundaries,
    tokenize,
)

Turn = dict[str, Any]
"""``{"role": "system" | "user" | "assistant" | "tool", "content": …}``.

``tool_calls`` have OpenAI's form, except that ``arguments`` is an object.
"""
ToolSchema = dict[str, Any]
"""``{"type": "function", "function": {"name", "description", "parameters"}}``."""

# Disables the reasoning of Qwen's template, so that an answer begins with its own text.
_TEMPLATE_OPTIONS = {"enable_thinking": False}

# Llama's template writes today's date if ``strftime_now`` exists and this date otherwise. The fixed
# date makes a prompt the same every day, in training and in serving.
_FIXED_DATE_MACRO = (
    "{% macro strftime_now(format) %}{{ format | replace('%d', '26') | replace('%b', 'Jul') | replace('%B', 'July')"
    " | replace('%m', '07') | replace('%Y', '2024') }}{% endmacro %}"
)


class FieldOmitted(TemplateError):
    """The template does not render the value of ``field``."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


class _Conversation(NamedTuple):
    """Turns and tools to render."""

    turns: list[Turn]
    tools: list[ToolSchema]

    def truncate(self, count: int) -> _Conversation:
        return _Conversation(self.turns[:count], self.tools)

    def replace_turn(self, index: int, turn: Turn) -> _Conversation:
        """Return a copy in which the turn at ``index`` is replaced."""
        return _Conversation([*self.turns[:index], turn, *self.turns[index + 1 :]], self.tools)


class ChatTemplate:
    """Chat template of a tokenizer.

    Raises ``jinja2.TemplateError`` if the template rejects a conversation, and ``FieldOmitted`` if
    it drops a part of it.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        added = [token for token in tokenizer.added_tokens_decoder.values() if len(token.content.strip()) > 1]
        self._control_pattern = compile_names([token.content for token in added if token.special])
        # An assistant may write added tokens that are not control tokens, such as Qwen's <think>.
        # A user may not.
        self._added_pattern = compile_names([token.content for token in added])

    def render_conversation(self, turns: Sequence[Turn], tools: Sequence[ToolSchema] = ()) -> RenderedText:
        """Render all turns, with a span for each assistant message.

        The text up to the last answer equals ``render_prompt`` of the messages before it, even if
        the template renders earlier answers differently. Training therefore sees the prompt of
        serving.
        """
        conversation = self._prepare_conversation(turns, tools)
        text = self._render(conversation)
        spans = []
        for index, turn in enumerate(conversation.turns):
            if turn["role"] == "assistant":
                is_last = index == len(conversation.turns) - 1
                # Templates reject an empty conversation, so a first answer has no prompt.
                prompt = self._render(conversation.truncate(index), add_generation_prompt=True) if index else None
                start = self._find_answer_start(text, prompt, conversation, index)
                if prompt is not None and is_last:
                    text, start = prompt + text[start:], len(prompt)
                end = len(text) if is_last else self._find_turn_end(text, conversation.truncate(index + 1))
                spans.append(MessageSpan(start, self._find_answer_end(text, start, end, turn), index))
        return split_at_boundaries(text, spans)

    def render_prompt(self, turns: Sequence[Turn], tools: Sequence[ToolSchema] = ()) -> RenderedText:
        """Render the prompt for the next answer."""
        return split_at_boundaries(
            self._render(self._prepare_conversation(turns, tools), add_generation_prompt=True), []
        )

    def tokenize(self, rendered: Sequence[RenderedText]) -> list[TokenizedText]:
        return tokenize(self._tokenizer, rendered)

    def get_end_of_turn_ids(self) -> set[int]:
        """Return the control tokens that end an answer."""
        return self.find_control_tokens(self._turn_ending)

    def render_answer(self, turns: Sequence[Turn], tools: Sequence[ToolSchema] = ()) -> str:
        """Render the last turn as the model writes it, without the control token that ends it."""
        text = self._render_answer_with_ending(turns, tools)
        for name in self._control_pattern.findall(self._turn_ending):
            text = text.removesuffix(name)
        return text

    def find_control_tokens(self, text: str) -> set[int]:
        """Return the ids of the control tokens whose names occur in ``text``."""
        return {self._tokenizer.convert_tokens_to_ids(name) for name in self._control_pattern.findall(text)}

    @cached_property
    def _turn_ending(self) -> str:
        return self._render_answer_with_ending(
            [{"role": "user", "content": "a"}, {"role": "assistant", "content": "a"}]
        )

    def _render_answer_with_ending(self, turns: Sequence[Turn], tools: Sequence[ToolSchema] = ()) -> str:
        rendered = self.render_conversation(turns, tools)
        span = rendered.spans[-1]
        return "".join(rendered.pieces)[span.start : span.end]

    def _prepare_conversation(self, turns: Sequence[Turn], tools: Sequence[ToolSchema]) -> _Conversation:
        """Escape special tokens. Raises ``FieldOmitted`` if the template drops tools or calls."""
        conversation = _Conversation(
            [self._escape_turn(turn) for turn in turns],
            [escape_special_tokens(tool, self._added_pattern) for tool in tools],
        )
        if conversation.tools and self._render(conversation) == self._render(_Conversation(conversation.turns, [])):
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
        text = self._render(marked) if marks else ""
        for mark, field in marks:
            if mark not in text:
                raise FieldOmitted(
                    field,
                    "It does not render this call. Choose a base model whose template renders calls, or write the "
                    "call into 'content'.",
                )
        return conversation

    def _escape_turn(self, turn: Turn) -> Turn:
        content_pattern = self._control_pattern if turn["role"] == "assistant" else self._added_pattern
        rest = {
            key: escape_special_tokens(value, self._added_pattern)
            for key, value in turn.items()
            if key not in ("role", "content")
        }
        return {"role": turn["role"], "content": escape_special_tokens(turn["content"], content_pattern), **rest}

    @cached_property
    def _call_encoder(self) -> Callable[[Turn], Turn]:
        """The first of ``_CALL_ENCODERS`` with which the template renders a complete call."""
        call = {"id": "call00000", "type": "function", "function": {"name": "a", "arguments": {"a": MARKER_CHARACTER}}}
        conversation = _Conversation(
            [{"role": "user", "content": "a"}, {"role": "assistant", "content": "", "tool_calls": [call]}],
            [{"type": "function", "function": {"name": "a", "description": "a", "parameters": {}}}],
        )
        for encoder in _CALL_ENCODERS:
            try:
                text = self._render(conversation, call_encoder=encoder)
            except TemplateError:
                continue
            # Single quotes indicate Python's repr of an object instead of JSON.
            if MARKER_CHARACTER in text and f"'{MARKER_CHARACTER}'" not in text:
                return encoder
        return _CALL_ENCODERS[0]

    def _render(
        self,
        conversation: _Conversation,
        add_generation_prompt: bool = False,
        call_encoder: Callable[[Turn], Turn] | None = None,
    ) -> str:
        tools = conversation.tools or None
        try:
            template = self._tokenizer.get_chat_template(tools=tools)
            text: str = self._tokenizer.apply_chat_template(
                [
                    (call_encoder or self._call_encoder)(turn) if turn.get("tool_calls") else turn
                    for turn in conversation.turns
                ],
                tools=tools,
                chat_template=_FIXED_DATE_MACRO + template if "strftime_now" in template else template,
                tokenize=False,
                add_generation_prompt=add_generation_prompt,
                **_TEMPLATE_OPTIONS,
            )
        except (TypeError, ValueError, LookupError) as error:
            # Templates raise these for values that they do not expect.
            raise TemplateError(str(error)) from error
        return text

    def _find_answer_start(self, text: str, prompt: str | None, conversation: _Conversation, index: int) -> int:
        if prompt is not None and text.startswith(prompt):
            return len(prompt)
        # The template renders this answer differently from the generation prompt: a probe in place
        # of the content finds where the content begins.
        probed = self._render(conversation.replace_turn(index, {"role": "assistant", "content": MARKER_CHARACTER}))
        position = probed.find(MARKER_CHARACTER)
        if position < 0:
            return _count_common_prefix(text, prompt or "")
        return min(position, _count_common_prefix(text, probed))

    def _find_turn_end(self, text: str, prefix: _Conversation) -> int | None:
        """Return the end of the last turn of ``prefix``.

        None if the template renders that turn differently when other turns follow.
        """
        turn = self._render(prefix)
        return len(turn) if text.startswith(turn) else None

    def _find_answer_end(self, text: str, start: int, end: int | None, turn: Turn) -> int:
        """Return the end of the control token that ends the answer.

        Text that the template writes after it, e.g. a newline, is not a target. After plain text it
        is the first control token. Calls may contain control tokens, as Mistral's do, so after
        calls it is the last control token of the turn.
        """
        limit = len(text) if end is None else end
        calls = turn.get("tool_calls", ())
        after = start
        for call in calls:
            after = max(after, text.find(call["function"]["name"], after, limit))
        ends = [control.end() for control in self._control_pattern.finditer(text, after, limit)]
        return (ends[-1] if calls and end is not None else ends[0]) if ends else limit


def _count_common_prefix(left: str, right: str) -> int:
    """Return the length of the common prefix."""
    shortest = min(len(left), len(right))
    return next((at for at in range(shortest) if left[at] != right[at]), shortest)


def _rename_calls(turn: Turn, names: Sequence[str]) -> Turn:
    """Return a copy of the turn with other names for its calls."""
    calls = [
        {**call, "function": {**call["function"], "name": name}}
        for call, name in zip(turn["tool_calls"], names, strict=True)
    ]
    return {**turn, "tool_calls": calls}


def _encode_arguments(turn: Turn) -> Turn:
    """Encode arguments as JSON text and empty content as None."""
    calls = [
        {**call, "function": {**call["function"], "arguments": json.dumps(arguments, ensure_ascii=False)}}
        for call in turn["tool_calls"]
        for arguments in [call["function"]["arguments"]]
    ]
    return {**turn, "content": turn["content"] or None, "tool_calls": calls}


_CALL_ENCODERS: tuple[Callable[[Turn], Turn], ...] = (lambda turn: turn, _encode_arguments)
"""Forms of a call that templates expect.

The arguments are an object (Qwen, Llama, Mistral) or JSON text.
"""

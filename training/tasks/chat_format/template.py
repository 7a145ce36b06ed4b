"""A conversation as the base model's own chat template writes it, and which of its tokens answer.

The rendered text is tokenised once. A control token's name inside a message, a call or a tool is text: a seam is put
into it before rendering, so nothing that is said can end its own turn or open another.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, NamedTuple

from jinja2 import TemplateError

from training.tasks.support.special_tokens import (
    PROBE,
    MessageSpan,
    RenderedText,
    TokenizedText,
    compile_names,
    escape_special_tokens,
    split_at_boundaries,
    tokenize,
)

Turn = dict[str, Any]
"""``{"role": "system" | "user" | "assistant" | "tool", "content": …}``, with ``tool_calls`` as OpenAI has them but for
``arguments``, which are an object."""
ToolSchema = dict[str, Any]
"""``{"type": "function", "function": {"name", "description", "parameters"}}``."""

# Qwen's template asks whether to think aloud: an answer begins with its words.
_TEMPLATE_OPTIONS = {"enable_thinking": False}

# Llama's template writes today's date unless it knows no clock, and then this one: with it a prompt is the same on
# every day, in training and in serving.
_FIXED_DATE_MACRO = (
    "{% macro strftime_now(format) %}{{ format | replace('%d', '26') | replace('%b', 'Jul') | replace('%B', 'July')"
    " | replace('%m', '07') | replace('%Y', '2024') }}{% endmacro %}"
)


class FieldOmitted(TemplateError):
    """The template says nothing of what stands in ``field``."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


class _Conversation(NamedTuple):
    """What is rendered."""

    turns: list[Turn]
    tools: list[ToolSchema]

    def truncate(self, count: int) -> _Conversation:
        return _Conversation(self.turns[:count], self.tools)

    def replace_turn(self, index: int, turn: Turn) -> _Conversation:
        """With another turn in one place."""
        return _Conversation([*self.turns[:index], turn, *self.turns[index + 1 :]], self.tools)


class ChatTemplate:
    """Raises ``jinja2.TemplateError`` where the template refuses a conversation, ``LeftOut`` where it drops a part."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        added = [token for token in tokenizer.added_tokens_decoder.values() if len(token.content.strip()) > 1]
        self._control_pattern = compile_names([token.content for token in added if token.special])
        # An assistant may well write what is no control token, such as Qwen's <think>; a user may not.
        self._added_pattern = compile_names([token.content for token in added])

    def render_conversation(self, turns: Sequence[Turn], tools: Sequence[ToolSchema] = ()) -> RenderedText:
        """All of it, with a span for each assistant message.

        The text up to the last answer is what ``prompt`` gives for the messages before it, whatever the template does
        differently with an answer in its past; so training sees what serving will ask.
        """
        talk = self._prepare_conversation(turns, tools)
        text = self._render(talk)
        spans = []
        for index, turn in enumerate(talk.turns):
            if turn["role"] == "assistant":
                last = index == len(talk.turns) - 1
                # Templates want something to answer; an answer to nothing begins where its own words do.
                prompt = self._render(talk.truncate(index), add_generation_prompt=True) if index else None
                start = self._find_answer_start(text, prompt, talk, index)
                if prompt is not None and last:
                    text, start = prompt + text[start:], len(prompt)
                end = len(text) if last else self._find_turn_end(text, talk.truncate(index + 1))
                spans.append(MessageSpan(start, self._find_answer_end(text, start, end, turn), index))
        return split_at_boundaries(text, spans)

    def render_prompt(self, turns: Sequence[Turn], tools: Sequence[ToolSchema] = ()) -> RenderedText:
        """What the model is given to answer."""
        return split_at_boundaries(
            self._render(self._prepare_conversation(turns, tools), add_generation_prompt=True), []
        )

    def tokenize(self, rendered: Sequence[RenderedText]) -> list[TokenizedText]:
        return tokenize(self._tokenizer, rendered)

    def get_end_of_turn_ids(self) -> set[int]:
        """Control tokens with which an answer ends."""
        return self.find_control_tokens(self._turn_ending)

    def render_answer(self, turns: Sequence[Turn], tools: Sequence[ToolSchema] = ()) -> str:
        """What the model writes as the last of these turns, without the control token that ends it."""
        text = self._render_answer_with_ending(turns, tools)
        for name in self._control_pattern.findall(self._turn_ending):
            text = text.removesuffix(name)
        return text

    def find_control_tokens(self, text: str) -> set[int]:
        """Those whose names stand in it."""
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
        """Shielded. Raises ``LeftOut`` for tools and calls."""
        talk = _Conversation(
            [self._escape_turn(turn) for turn in turns],
            [escape_special_tokens(tool, self._added_pattern) for tool in tools],
        )
        if talk.tools and self._render(talk) == self._render(_Conversation(talk.turns, [])):
            raise FieldOmitted(
                "tools",
                "It knows no tools, so the model would never read them; choose a base whose template does, or describe "
                "them in a system message.",
            )
        marked = talk
        marks: list[tuple[str, str]] = []
        for index, turn in enumerate(talk.turns):
            if turn.get("tool_calls"):
                own = [f"{PROBE}{index}.{place}{PROBE}" for place in range(len(turn["tool_calls"]))]
                marked = marked.replace_turn(index, _rename_calls(turn, own))
                marks += [(mark, f"messages[{index}].tool_calls[{place}]") for place, mark in enumerate(own)]
        text = self._render(marked) if marks else ""
        for mark, field in marks:
            if mark not in text:
                raise FieldOmitted(
                    field,
                    "It leaves out this call, so the model would never read it; choose a base whose template writes "
                    "calls, or put the call into 'content'.",
                )
        return talk

    def _escape_turn(self, turn: Turn) -> Turn:
        said = self._control_pattern if turn["role"] == "assistant" else self._added_pattern
        rest = {
            key: escape_special_tokens(value, self._added_pattern)
            for key, value in turn.items()
            if key not in ("role", "content")
        }
        return {"role": turn["role"], "content": escape_special_tokens(turn["content"], said), **rest}

    @cached_property
    def _call_encoder(self) -> Callable[[Turn], Turn]:
        """The first of ``_SPELLINGS`` in which the template writes a call whole."""
        call = {"id": "call00000", "type": "function", "function": {"name": "a", "arguments": {"a": PROBE}}}
        talk = _Conversation(
            [{"role": "user", "content": "a"}, {"role": "assistant", "content": "", "tool_calls": [call]}],
            [{"type": "function", "function": {"name": "a", "description": "a", "parameters": {}}}],
        )
        for spelling in _CALL_ENCODERS:
            try:
                text = self._render(talk, call_encoder=spelling)
            except TemplateError:
                continue
            # In single quotes stands what is Python's own way of writing an object, not JSON.
            if PROBE in text and f"'{PROBE}'" not in text:
                return spelling
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
            # What a template does wrong with a value that it did not expect.
            raise TemplateError(str(error)) from error
        return text

    def _find_answer_start(self, text: str, prompt: str | None, conversation: _Conversation, index: int) -> int:
        if prompt is not None and text.startswith(prompt):
            return len(prompt)
        # The template writes this answer otherwise than it opens a new one: learn its own words, which a probe in
        # their place finds.
        probed = self._render(conversation.replace_turn(index, {"role": "assistant", "content": PROBE}))
        found = probed.find(PROBE)
        return (
            min(found, _count_common_prefix(text, probed)) if found >= 0 else _count_common_prefix(text, prompt or "")
        )

    def _find_turn_end(self, text: str, prefix: _Conversation) -> int | None:
        """Where the last turn of ``upto`` ends; None where the template writes it otherwise once others follow."""
        turn = self._render(prefix)
        return len(turn) if text.startswith(turn) else None

    def _find_answer_end(self, text: str, start: int, end: int | None, turn: Turn) -> int:
        """After a control token; what a template writes behind it (a newline) no model needs to learn.

        That is the first one behind words. A call may hold control tokens of its own, such as Mistral's, so behind
        calls it is the turn's last.
        """
        limit = len(text) if end is None else end
        calls = turn.get("tool_calls", ())
        after = start
        for call in calls:
            after = max(after, text.find(call["function"]["name"], after, limit))
        ends = [control.end() for control in self._control_pattern.finditer(text, after, limit)]
        return (ends[-1] if calls and end is not None else ends[0]) if ends else limit


def _count_common_prefix(left: str, right: str) -> int:
    """Length of the common beginning."""
    shortest = min(len(left), len(right))
    return next((at for at in range(shortest) if left[at] != right[at]), shortest)


def _rename_calls(turn: Turn, names: Sequence[str]) -> Turn:
    """With other names for its calls."""
    calls = [
        {**call, "function": {**call["function"], "name": name}}
        for call, name in zip(turn["tool_calls"], names, strict=True)
    ]
    return {**turn, "tool_calls": calls}


def _encode_arguments(turn: Turn) -> Turn:
    """Arguments as JSON text, and no content where it is empty."""
    calls = [
        {**call, "function": {**call["function"], "arguments": json.dumps(arguments, ensure_ascii=False)}}
        for call in turn["tool_calls"]
        for arguments in [call["function"]["arguments"]]
    ]
    return {**turn, "content": turn["content"] or None, "tool_calls": calls}


_CALL_ENCODERS: tuple[Callable[[Turn], Turn], ...] = (lambda turn: turn, _encode_arguments)
"""How templates want a call: its arguments as an object (Qwen, Llama, Mistral), or as the JSON text of one."""

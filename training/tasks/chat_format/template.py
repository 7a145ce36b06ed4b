"""Conversations rendered with the base model's chat template, and the spans of their answers.

The rendered text is tokenized once. A control token's name inside a message, a call, or a tool is
plain text: a token boundary is inserted into the name before rendering, so no content can end its
own turn or begin another.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

from jinja2 import TemplateError

from training.tasks.chat_format.answers import (
    RenderedAnswer,
    TrainingSequence,
    add_reasoning,
    count_common_prefix,
    group_answers,
)
from training.tasks.chat_format.conversation import (
    CallEncoder,
    FieldOmitted,
    TemplateConversation,
    ToolSchema,
    Turn,
    check_content_of_call,
    check_tools,
    find_call_encoder,
)
from training.tasks.chat_format.reasoning import (
    CLOSE_TAG,
    OPEN_TAG,
    THINKING_OFF,
    THINKING_ON,
    ReasoningFormat,
    TemplateOptions,
    find_template_options,
    infer_reasoning_format,
)
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

# Llama's template writes today's date if ``strftime_now`` exists and this date otherwise. The fixed
# date makes a prompt the same every day, in training and in serving.
_FIXED_DATE_MACRO = (
    "{% macro strftime_now(format) %}{{ format | replace('%d', '26') | replace('%b', 'Jul') | replace('%B', 'July')"
    " | replace('%m', '07') | replace('%Y', '2024') }}{% endmacro %}"
)


class ChatTemplate:
    """Chat template of a tokenizer.

    Raises ``jinja2.TemplateError`` if the template rejects a conversation, and ``FieldOmitted`` if
    it drops a part of it.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        added = [token for token in tokenizer.added_tokens_decoder.values() if len(token.content.strip()) > 1]
        self._control_pattern = compile_names([token.content for token in added if token.special])
        # An assistant may write added tokens that are not control tokens, such as Qwen's
        # <tool_call>. A user may not. The tags of reasoning belong to the template.
        self._assistant_pattern = compile_names(
            [*(token.content for token in added if token.special), OPEN_TAG, CLOSE_TAG]
        )
        self._added_pattern = compile_names([token.content for token in added])

    @cached_property
    def reasoning_format(self) -> ReasoningFormat | None:
        """Text around the reasoning of an answer. None: the template renders no reasoning."""
        return infer_reasoning_format(
            lambda turns, options, add_generation_prompt: self._apply(turns, [], options, add_generation_prompt),
            self._control_pattern,
        )

    @cached_property
    def options(self) -> frozenset[str]:
        """Variables of the template that a request may set."""
        return find_template_options(self._tokenizer.get_chat_template())

    def render_sequences(self, turns: Sequence[Turn], tools: Sequence[ToolSchema] = ()) -> list[RenderedText]:
        """Render a conversation for training, with a span for each assistant message.

        Every answer follows the prompt that serving renders for it. The first sequence is the whole
        conversation. If the template renders an earlier answer, or the turns before it, otherwise
        when further turns follow, then that answer has a sequence of its own, which ends with it.
        """
        conversation = self._prepare_conversation(turns, tools)
        indices = [index for index, turn in enumerate(conversation.turns) if turn["role"] == "assistant"]
        answers = (self._render_answer(conversation, index) for index in reversed(indices))
        sequences = group_answers(answers, self._control_pattern) or [
            TrainingSequence(self._render(conversation, THINKING_OFF), [])
        ]
        return [split_at_boundaries(sequence.text, sequence.spans[::-1]) for sequence in sequences]

    def render_prompt(
        self, turns: Sequence[Turn], tools: Sequence[ToolSchema] = (), options: TemplateOptions = THINKING_OFF
    ) -> RenderedText:
        """Render the prompt for the next answer."""
        prompt = self._render(self._prepare_conversation(turns, tools), options, add_generation_prompt=True)
        return split_at_boundaries(prompt, [])

    def tokenize(self, rendered: Sequence[RenderedText]) -> list[TokenizedText]:
        return tokenize(self._tokenizer, rendered)

    def get_end_of_turn_ids(self) -> set[int]:
        """Return the control tokens that end an answer."""
        return self.find_control_tokens(self._get_end_of_turn())

    def render_answer(self, turns: Sequence[Turn], tools: Sequence[ToolSchema] = ()) -> str:
        """Render the last turn as the model writes it, without reasoning and the control token that
        ends it."""
        conversation = self._prepare_conversation(turns, tools)
        answer = self._render_answer(conversation, len(conversation.turns) - 1)
        text = kept = answer.content
        for name in self._control_pattern.findall(self._get_end_of_turn()):
            kept = kept.removesuffix(name)
        endings = [name for name in self._control_pattern.findall(text)[-1:] if text.endswith(name)]
        # GPT-OSS ends a call with another control token than an answer.
        return text.removesuffix(endings[0]) if kept == text and endings else kept

    def find_control_tokens(self, text: str) -> set[int]:
        """Return the ids of the control tokens whose names occur in ``text``."""
        return {self._tokenizer.convert_tokens_to_ids(name) for name in self._control_pattern.findall(text)}

    def _get_end_of_turn(self) -> str:
        """Return the text after the content of an answer, up to its first control token."""
        control = self._control_pattern.search(self._turn_ending)
        return self._turn_ending[: control.end()] if control else self._turn_ending

    @cached_property
    def _turn_ending(self) -> str:
        """Everything that the template writes after the content of the last turn."""
        turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": MARKER_CHARACTER}]
        return self._render(TemplateConversation(turns, []), THINKING_OFF).rpartition(MARKER_CHARACTER)[2]

    def _prepare_conversation(self, turns: Sequence[Turn], tools: Sequence[ToolSchema]) -> TemplateConversation:
        """Escape special tokens. Raises ``FieldOmitted`` if the template drops tools or calls."""
        conversation = TemplateConversation(
            [self._escape_turn(turn) for turn in turns],
            [escape_special_tokens(tool, self._added_pattern) for tool in tools],
        )
        check_tools(conversation, lambda changed: self._render(changed, THINKING_OFF))
        return conversation

    def _escape_turn(self, turn: Turn) -> Turn:
        is_answer = turn["role"] == "assistant"
        own_text = ("content", "reasoning_content") if is_answer else ()
        return {
            key: value
            if key == "role"
            else escape_special_tokens(value, self._assistant_pattern if key in own_text else self._added_pattern)
            for key, value in turn.items()
        }

    @cached_property
    def _call_encoder(self) -> CallEncoder:
        return find_call_encoder(lambda turns, tools: self._apply(turns, tools, THINKING_OFF, False))

    def _render(
        self, conversation: TemplateConversation, options: TemplateOptions, add_generation_prompt: bool = False
    ) -> str:
        turns = [self._to_template_turn(turn) for turn in conversation.turns]
        return self._apply(turns, conversation.tools, options, add_generation_prompt)

    def _to_template_turn(self, turn: Turn) -> Turn:
        """Give the calls and the reasoning of a turn the form that this template reads."""
        if turn.get("tool_calls"):
            turn = self._call_encoder(turn)
        if not turn.get("reasoning_content"):
            return turn
        reasoning = self.reasoning_format
        rest = {key: value for key, value in turn.items() if key != "reasoning_content"}
        return {**rest, reasoning.field: turn["reasoning_content"]} if reasoning and reasoning.field else rest

    def _apply(
        self, turns: list[Turn], tools: list[ToolSchema], options: TemplateOptions, add_generation_prompt: bool
    ) -> str:
        try:
            template = self._tokenizer.get_chat_template(tools=tools or None)
            text: str = self._tokenizer.apply_chat_template(
                turns,
                tools=tools or None,
                chat_template=_FIXED_DATE_MACRO + template if "strftime_now" in template else template,
                tokenize=False,
                add_generation_prompt=add_generation_prompt,
                **options,
            )
        except (TypeError, ValueError, LookupError) as error:
            # Templates raise these for values that they do not expect.
            raise TemplateError(str(error)) from error
        return text

    def _render_answer(self, conversation: TemplateConversation, index: int) -> RenderedAnswer:
        """Render the answer at ``index`` after its prompt, with nothing after its turn.

        An answer with reasoning follows the prompt of thinking; any other follows the prompt
        without.
        """
        self._check_answer(conversation, index)
        turn, reasoning = conversation.turns[index], conversation.turns[index].get("reasoning_content", "")
        options = THINKING_ON if reasoning else THINKING_OFF
        text = self._render(conversation.truncate(index + 1), options)
        # Templates reject an empty conversation, so a first answer has no prompt.
        prompt = self._render(conversation.truncate(index), options, add_generation_prompt=True) if index else None
        start = self._find_answer_start(text, prompt, conversation, index, options)
        end = self._find_answer_end(text, start, turn)
        answer = text[start:end]
        prompt = text[:start] if prompt is None else prompt
        shape = self.reasoning_format
        is_complete = shape.close_tag in answer if shape and reasoning else text[:start] == prompt
        if shape and not is_complete:
            answer = add_reasoning(answer, reasoning, prompt, shape)
        skipped = shape.find_body(answer) if shape and (reasoning or shape.is_opened_by(prompt)) else 0
        content_start = len(prompt) + skipped
        span = MessageSpan(len(prompt), len(prompt) + len(answer), index, content_start if reasoning else len(prompt))
        return RenderedAnswer(prompt + answer + text[end:], content_start, span)

    def _check_answer(self, conversation: TemplateConversation, index: int) -> None:
        turn = conversation.turns[index]
        if turn.get("reasoning_content") and self.reasoning_format is None:
            raise FieldOmitted(
                f"messages[{index}].reasoning_content",
                "It renders no reasoning. Choose a base model whose template does, or remove the reasoning.",
            )
        if turn.get("tool_calls") and turn["content"]:
            has_channels = self.reasoning_format is not None and self.reasoning_format.uses_channels
            check_content_of_call(
                conversation, index, lambda changed: self._render(changed, THINKING_OFF), is_reasoning=has_channels
            )

    def _find_answer_start(
        self,
        text: str,
        prompt: str | None,
        conversation: TemplateConversation,
        index: int,
        options: TemplateOptions,
    ) -> int:
        if prompt is not None and text.startswith(prompt):
            return len(prompt)
        # The template renders this answer differently from the generation prompt: a probe in place
        # of the content finds where the content begins.
        probed = self._render(
            conversation.truncate(index).replace_turn(index, {"role": "assistant", "content": MARKER_CHARACTER}),
            options,
        )
        position = probed.find(MARKER_CHARACTER)
        if position < 0:
            return count_common_prefix(text, prompt or "")
        position = min(position, count_common_prefix(text, probed))
        # GPT-OSS' template drops earlier reasoning, but its header before the answer is the same.
        header = self._find_header(prompt, conversation.truncate(index), options) if prompt else ""
        start = text.rfind(header, 0, position) + len(header) if header in text[:position] else position
        opening = self.reasoning_format.opening if self.reasoning_format else ""
        return start if opening.startswith(text[start:position]) else position

    def _find_header(self, prompt: str, before: TemplateConversation, options: TemplateOptions) -> str:
        """Return what the prompt adds to the conversation."""
        rendered = self._render(before, options)
        return prompt.removeprefix(rendered) if prompt.startswith(rendered) else ""

    def _find_answer_end(self, text: str, start: int, turn: Turn) -> int:
        """Return the end of the control token that ends the answer, the last turn of ``text``.

        Text that the template writes after it, e.g. a newline, is not a target. Calls may contain
        control tokens, as Mistral's do, so after calls it is the last control token of the turn.
        """
        calls = turn.get("tool_calls", ())
        if not calls and text.endswith(self._turn_ending) and len(text) - len(self._turn_ending) >= start:
            return len(text) - len(self._turn_ending) + len(self._get_end_of_turn())
        after = start
        for call in calls:
            after = max(after, text.find(call["function"]["name"], after))
        ends = [control.end() for control in self._control_pattern.finditer(text, after)]
        return (ends[-1] if calls else ends[0]) if ends else len(text)

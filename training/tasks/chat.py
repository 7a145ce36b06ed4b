"""Conversations: the model learns what the assistant says, its calls of tools included.

Row: ``{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello!"}]}``, OpenAI's chat
row; with ``tools`` an assistant message may have ``tool_calls``, and ``tool`` messages answer them. ``weight`` 0 on an
assistant message leaves it out of the loss, ``weight`` on the row scales it. No predictions: it answers at
``/v1/chat/completions``.
Loss: cross-entropy of each learnt token; accuracy counts tokens.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import TemplateError
from pydantic import Field

from training.tasks.base import RowIssue
from training.tasks.chat_format.rows import (
    Conversation,
    Message,
    Tool,
    check_conversation,
    to_template_messages,
    to_template_tools,
)
from training.tasks.chat_format.template import ChatTemplate, FieldOmitted
from training.tasks.support.causal import CausalExample, CausalTask, build_causal_example
from training.tasks.support.special_tokens import RenderedText, TokenizedText


class ChatRow(Conversation):
    """OpenAI's chat row."""

    weight: float = Field(default=1.0, gt=0, le=1000)
    """How much this row counts, beside others."""


@dataclass(frozen=True)
class Chat(CausalTask[ChatRow]):
    name = "chat"
    title = "Conversations; the model learns what the assistant says"
    row_schema = ChatRow
    route = "chat/completions"
    needs_chat_template = True

    def check_row(self, row: ChatRow) -> Iterator[RowIssue]:
        yield from check_conversation(row)
        answers = [message for message in row.messages if message.role == "assistant"]
        if not answers:
            yield RowIssue("no_assistant", "messages", "No assistant message to learn from; add one.")
        elif row.messages[-1].role != "assistant":
            place = f"messages[{len(row.messages) - 1}].role"
            yield RowIssue("last_not_assistant", place, "The last message must be the assistant's; add its answer.")
        elif not any(message.weight for message in answers):
            yield RowIssue("no_target", "messages", "Every assistant message has weight 0; nothing is left to learn.")

    def encode(self, rows: Sequence[ChatRow], processor: Any, max_length: int) -> list[CausalExample | RowIssue]:
        template = ChatTemplate(processor)
        rendered = [render(template, row.messages, row.all_tools) for row in rows]
        return [
            one if isinstance(one, RowIssue) else self._build_example(row, *one, max_length)
            for row, one in zip(rows, tokenize_rendered(template, rendered), strict=True)
        ]

    def encode_prompt(self, messages: Sequence[Message], tokenizer: Any, tools: Sequence[Tool] = ()) -> list[int]:
        """What the model is given to answer. Raises ``jinja2.TemplateError`` where its template refuses it."""
        template = ChatTemplate(tokenizer)
        prompt = template.render_prompt(to_template_messages(messages), to_template_tools(tools))
        [tokens] = template.tokenize([prompt])
        return tokens.ids

    def stop_tokens(self, model: Any, tokenizer: Any) -> set[int]:
        return super().stop_tokens(model, tokenizer) | ChatTemplate(tokenizer).get_end_of_turn_ids()

    def _build_example(
        self, row: ChatRow, rendered: RenderedText, tokens: TokenizedText, max_length: int
    ) -> CausalExample | RowIssue:
        weights = array("f", [row.weight if self.train_on_inputs else 0.0]) * len(tokens.ids)
        for span in rendered.spans:
            for position in tokens.find_positions(span):
                weights[position] = row.weight * row.messages[span.message_index].weight
        return build_causal_example(tokens.ids, weights, max_length, "messages")


def render(
    template: ChatTemplate, messages: Sequence[Message], tools: Sequence[Tool], field_prefix: str = ""
) -> RenderedText | RowIssue:
    """``place`` stands before the field's name."""
    try:
        return template.render_conversation(to_template_messages(messages), to_template_tools(tools))
    except FieldOmitted as error:
        return RowIssue("template", field_prefix + error.field, f"The base model's chat template: {error}")
    except TemplateError as error:
        return RowIssue(
            "template", f"{field_prefix}messages", f"The base model's chat template refuses this conversation: {error}"
        )


def tokenize_rendered(
    template: ChatTemplate, rendered: Sequence[RenderedText | RowIssue]
) -> Iterator[tuple[RenderedText, TokenizedText] | RowIssue]:
    """In order; all texts are given to the tokenizer together."""
    tokens = iter(template.tokenize([one for one in rendered if isinstance(one, RenderedText)]))
    for one in rendered:
        yield one if isinstance(one, RowIssue) else (one, next(tokens))

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

from training.tasks.base import Flaw
from training.tasks.chat_format.rows import (
    Conversation,
    Message,
    Tool,
    as_templates_know,
    check_conversation,
    tools_as_templates_know,
)
from training.tasks.chat_format.template import ChatTemplate, LeftOut
from training.tasks.support.causal import CausalExample, CausalTask, sequence
from training.tasks.support.special_tokens import Rendered, Tokens


class ChatRow(Conversation):
    """OpenAI's chat row."""

    weight: float = Field(default=1.0, gt=0, le=1000)
    """How much this row counts, beside others."""


@dataclass(frozen=True)
class Chat(CausalTask[ChatRow]):
    name = "chat"
    title = "Conversations; the model learns what the assistant says"
    row = ChatRow
    route = "chat/completions"
    chat_template = True

    def check(self, row: ChatRow) -> Iterator[Flaw]:
        yield from check_conversation(row)
        answers = [message for message in row.messages if message.role == "assistant"]
        if not answers:
            yield Flaw("no_assistant", "messages", "No assistant message to learn from; add one.")
        elif row.messages[-1].role != "assistant":
            place = f"messages[{len(row.messages) - 1}].role"
            yield Flaw("last_not_assistant", place, "The last message must be the assistant's; add its answer.")
        elif not any(message.weight for message in answers):
            yield Flaw("no_target", "messages", "Every assistant message has weight 0; nothing is left to learn.")

    def encode(self, rows: Sequence[ChatRow], processor: Any, max_length: int) -> list[CausalExample | Flaw]:
        template = ChatTemplate(processor)
        rendered = [render(template, row.messages, row.toolbox) for row in rows]
        return [
            one if isinstance(one, Flaw) else self._example(row, *one, max_length)
            for row, one in zip(rows, tokenised(template, rendered), strict=True)
        ]

    def encode_prompt(self, messages: Sequence[Message], tokenizer: Any, tools: Sequence[Tool] = ()) -> list[int]:
        """What the model is given to answer. Raises ``jinja2.TemplateError`` where its template refuses it."""
        template = ChatTemplate(tokenizer)
        prompt = template.prompt(as_templates_know(messages), tools_as_templates_know(tools))
        [tokens] = template.tokens([prompt])
        return tokens.ids

    def stop_tokens(self, model: Any, tokenizer: Any) -> set[int]:
        return super().stop_tokens(model, tokenizer) | ChatTemplate(tokenizer).end_of_turn()

    def _example(self, row: ChatRow, rendered: Rendered, tokens: Tokens, max_length: int) -> CausalExample | Flaw:
        weights = array("f", [row.weight if self.train_on_inputs else 0.0]) * len(tokens.ids)
        for span in rendered.spans:
            for position in tokens.covering(span):
                weights[position] = row.weight * row.messages[span.message].weight
        return sequence(tokens.ids, weights, max_length, "messages")


def render(
    template: ChatTemplate, messages: Sequence[Message], tools: Sequence[Tool], place: str = ""
) -> Rendered | Flaw:
    """``place`` stands before the field's name."""
    try:
        return template.conversation(as_templates_know(messages), tools_as_templates_know(tools))
    except LeftOut as error:
        return Flaw("template", place + error.field, f"The base model's chat template: {error}")
    except TemplateError as error:
        return Flaw(
            "template", f"{place}messages", f"The base model's chat template refuses this conversation: {error}"
        )


def tokenised(template: ChatTemplate, rendered: Sequence[Rendered | Flaw]) -> Iterator[tuple[Rendered, Tokens] | Flaw]:
    """In order; all texts are given to the tokenizer together."""
    tokens = iter(template.tokens([one for one in rendered if isinstance(one, Rendered)]))
    for one in rendered:
        yield one if isinstance(one, Flaw) else (one, next(tokens))

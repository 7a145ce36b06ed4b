"""Supervised fine-tuning on conversations; targets are assistant messages and their tool calls.

Row: ``{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content":
"Hello!"}]}``, OpenAI's chat row. With ``tools``, an assistant message may have ``tool_calls``, and
``tool`` messages hold their results. ``weight`` 0 excludes an assistant message from the loss;
``weight`` of the row scales its loss. The model is served at ``/v1/chat/completions``. Loss:
cross-entropy of each target token. Accuracy counts tokens.
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
    """Weight of this row in the loss."""


@dataclass(frozen=True)
class Chat(CausalTask[ChatRow]):
    name = "chat"
    title = "Conversations; the model learns the assistant's messages"
    row_schema = ChatRow
    route = "chat/completions"
    needs_chat_template = True

    def check_row(self, row: ChatRow) -> Iterator[RowIssue]:
        yield from check_conversation(row)
        answers = [message for message in row.messages if message.role == "assistant"]
        if not answers:
            yield RowIssue("no_assistant", "messages", "The row has no assistant message; add one.")
        elif row.messages[-1].role != "assistant":
            location = f"messages[{len(row.messages) - 1}].role"
            reason = "The last message must be from the assistant; add its answer."
            yield RowIssue("last_not_assistant", location, reason)
        elif not any(message.weight for message in answers):
            reason = "Every assistant message has weight 0; give at least one message weight 1."
            yield RowIssue("no_target", "messages", reason)

    def encode(self, rows: Sequence[ChatRow], processor: Any, max_length: int) -> list[CausalExample | RowIssue]:
        template = ChatTemplate(processor)
        rendered = [render(template, row.messages, row.all_tools) for row in rows]
        return [
            result if isinstance(result, RowIssue) else self._build_example(row, *result, max_length)
            for row, result in zip(rows, tokenize_rendered(template, rendered), strict=True)
        ]

    def encode_prompt(self, messages: Sequence[Message], tokenizer: Any, tools: Sequence[Tool] = ()) -> list[int]:
        """Return the token ids of the prompt.

        Raises ``jinja2.TemplateError`` if the chat template rejects the conversation.
        """
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
    """Render a conversation, or return the issue that prevents it.

    ``field_prefix`` precedes the name of the issue's field.
    """
    try:
        return template.render_conversation(to_template_messages(messages), to_template_tools(tools))
    except FieldOmitted as error:
        return RowIssue("template", field_prefix + error.field, f"The base model's chat template: {error}")
    except TemplateError as error:
        return RowIssue(
            "template",
            f"{field_prefix}messages",
            f"The base model's chat template rejects this conversation; change it: {error}",
        )


def tokenize_rendered(
    template: ChatTemplate, rendered: Sequence[RenderedText | RowIssue]
) -> Iterator[tuple[RenderedText, TokenizedText] | RowIssue]:
    """Yield results in order. The tokenizer processes all texts in one call."""
    tokens = iter(template.tokenize([text for text in rendered if isinstance(text, RenderedText)]))
    for result in rendered:
        yield result if isinstance(result, RowIssue) else (result, next(tokens))

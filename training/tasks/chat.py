"""Supervised fine-tuning on conversations; targets are assistant messages and their tool calls.

Row: ``{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content":
"Hello!"}]}``, OpenAI's chat row. With ``tools``, an assistant message may have ``tool_calls``, and
``tool`` messages hold their results. ``weight`` 0 excludes an assistant message from the loss;
``weight`` of the row scales its loss. An assistant message may have ``reasoning_content``, or its
reasoning between ``<think>`` tags at the start of its content. Every answer follows the prompt that
serving renders for it: a row becomes one sequence, or more if the template renders earlier answers
otherwise. The model is served at ``/v1/chat/completions``. Loss: cross-entropy of each target
token. Accuracy counts tokens.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from jinja2 import TemplateError
from pydantic import Field

from training.tasks.base import RowIssue, TaskState
from training.tasks.chat_format.conversation import FieldOmitted
from training.tasks.chat_format.reasoning import THINKING_OFF, TemplateOptions
from training.tasks.chat_format.row_rules import check_conversation
from training.tasks.chat_format.rows import Conversation, Message, Tool, to_template_messages, to_template_tools
from training.tasks.chat_format.template import ChatTemplate
from training.tasks.support.causal import CausalExample, CausalTask, build_causal_example
from training.tasks.support.special_tokens import MessageSpan, RenderedText, TokenizedText


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
    options = CausalTask.options | {"train_on_reasoning"}

    train_on_reasoning: bool = True

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

    def with_options(self, train_on_inputs: bool, train_on_reasoning: bool = True) -> Chat:
        return replace(self, train_on_inputs=train_on_inputs, train_on_reasoning=train_on_reasoning)

    def encode(self, rows: Sequence[ChatRow], processor: Any, max_length: int) -> list[list[CausalExample] | RowIssue]:
        template = ChatTemplate(processor)
        rendered = [render(template, row.messages, row.all_tools) for row in rows]
        return [
            result if isinstance(result, RowIssue) else self._build_examples(row, result, max_length)
            for row, result in zip(rows, tokenize_rendered(template, rendered), strict=True)
        ]

    def prepare(self, examples: Sequence[CausalExample]) -> TaskState:
        return build_chat_state(sum(example.has_reasoning for example in examples), len(examples))

    def update_state(self, state: TaskState, examples: Sequence[CausalExample]) -> TaskState:
        return self.prepare(examples)

    @property
    def needs_full_dataset(self) -> bool:
        # A sample shows well enough whether the rows have reasoning.
        return False

    def encode_prompt(
        self,
        messages: Sequence[Message],
        template: ChatTemplate,
        tools: Sequence[Tool] = (),
        options: TemplateOptions = THINKING_OFF,
    ) -> list[int]:
        """Return the token ids of the prompt.

        Raises ``jinja2.TemplateError`` if the chat template rejects the conversation.
        """
        prompt = template.render_prompt(to_template_messages(messages), to_template_tools(tools), options)
        [tokens] = template.tokenize([prompt])
        return tokens.ids

    def stop_tokens(self, model: Any, tokenizer: Any) -> set[int]:
        return super().stop_tokens(model, tokenizer) | ChatTemplate(tokenizer).get_end_of_turn_ids()

    def _build_examples(
        self, row: ChatRow, sequences: Sequence[TokenizedSequence], max_length: int
    ) -> list[CausalExample] | RowIssue:
        """Build the examples of a row: one for each sequence with a target."""
        examples: list[CausalExample] = []
        for index, (rendered, tokens) in enumerate(sequences):
            # The other sequences repeat the inputs of the first.
            input_weight = row.weight if self.train_on_inputs and not index else 0.0
            weights = array("f", [input_weight]) * len(tokens.ids)
            for span in rendered.spans:
                weight = row.weight * row.messages[span.message_index].weight if span.is_target else 0.0
                set_answer_weights(weights, span, tokens, weight, self.train_on_reasoning)
            example = build_causal_example(tokens.ids, weights, max_length, "messages")
            if isinstance(example, CausalExample):
                has_reasoning = any(span.body_start > span.start for span in rendered.spans)
                examples.append(replace(example, has_reasoning=has_reasoning, continues=bool(examples)))
            elif len(sequences) == 1:
                return example
        return examples or RowIssue(
            "too_long",
            "messages",
            f"Every answer begins after the limit of {max_length} tokens; shorten the text before it, or raise "
            "max_length if the base model allows it.",
        )


TokenizedSequence = tuple[RenderedText, TokenizedText]


def build_chat_state(reasoning_examples: int, examples: int) -> TaskState:
    """Return the state of a chat model: with ``thinking``, it is served with reasoning by default.

    It is, if at least half of the sequences that it was trained on have reasoning.
    """
    return {"thinking": True} if reasoning_examples and 2 * reasoning_examples >= examples else {}


def set_answer_weights(
    weights: array[float], span: MessageSpan, tokens: TokenizedText, weight: float, train_on_reasoning: bool
) -> None:
    """Set the weights of an answer's tokens. Without ``train_on_reasoning`` its reasoning and the
    text around it is context."""
    for position in tokens.find_positions(span.start, span.end):
        weights[position] = weight
    if not train_on_reasoning:
        for position in tokens.find_positions(span.start, span.body_start):
            weights[position] = 0.0


def render(
    template: ChatTemplate, messages: Sequence[Message], tools: Sequence[Tool], field_prefix: str = ""
) -> list[RenderedText] | RowIssue:
    """Render the training sequences of a conversation, or return the issue that prevents it.

    ``field_prefix`` precedes the name of the issue's field.
    """
    try:
        return template.render_sequences(to_template_messages(messages), to_template_tools(tools))
    except FieldOmitted as error:
        return RowIssue("template", field_prefix + error.field, f"The base model's chat template: {error}")
    except TemplateError as error:
        return RowIssue(
            "template",
            f"{field_prefix}messages",
            f"The base model's chat template rejects this conversation; change it: {error}",
        )


def tokenize_rendered(
    template: ChatTemplate, rendered: Sequence[list[RenderedText] | RowIssue]
) -> Iterator[list[TokenizedSequence] | RowIssue]:
    """Yield results in order. The tokenizer processes all texts in one call."""
    texts = [text for sequences in rendered if not isinstance(sequences, RowIssue) for text in sequences]
    tokens = iter(template.tokenize(texts))
    for sequences in rendered:
        yield sequences if isinstance(sequences, RowIssue) else [(text, next(tokens)) for text in sequences]

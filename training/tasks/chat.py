"""Conversations: the model learns what the assistant says.

Row: ``{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello!"}]}``, OpenAI's chat
row; ``weight`` 0 on an assistant message leaves it out of the loss, ``weight`` on the row scales it. No predictions:
it answers at ``/v1/chat/completions``.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from jinja2 import TemplateError
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

from training.tasks.base import Batch, Example, Flaw, Loss, State, Task, load_auto, pad_right
from training.tasks.causal import target_logits
from training.tasks.chat_template import ChatTemplate, Rendered, Tokens

if TYPE_CHECKING:
    import torch


def _text(content: object) -> object:
    """Content is a string or a list of text parts, which are joined."""
    if not isinstance(content, list):
        return content
    for part in content:
        if not (isinstance(part, dict) and part.keys() == {"type", "text"} and part["type"] == "text"):
            raise PydanticCustomError("wrong_type", "Each part must be {{'type': 'text', 'text': …}}.")
        if not isinstance(part["text"], str):
            raise PydanticCustomError("wrong_type", "A part's text must be a string.")
    return "".join(part["text"] for part in content)


Content = Annotated[str, BeforeValidator(_text)]


class Message(BaseModel):
    """One turn."""

    model_config = ConfigDict(extra="forbid")

    role: Literal["system", "developer", "user", "assistant"]
    content: Content
    weight: Literal[0, 1] = 1
    """0: the model reads this answer but does not learn it."""
    name: str | None = None


class ChatRow(BaseModel):
    """OpenAI's chat row."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    messages: list[Message] = Field(min_length=1)
    weight: float = Field(default=1.0, gt=0, le=1000)
    """How much this row counts, beside others."""


@dataclass(frozen=True, slots=True)
class ChatExample(Example):
    weights: array[float]
    """(T,) float32: 0 where a token is only read."""


class Chat(Task[ChatRow, ChatExample]):
    name = "chat"
    title = "Conversations; the model learns what the assistant says"
    row = ChatRow
    generative = True
    peft_type = "CAUSAL_LM"

    def check(self, row: ChatRow) -> Iterator[Flaw]:
        answers = [(index, message) for index, message in enumerate(row.messages) if message.role == "assistant"]
        if not answers:
            yield Flaw("no_assistant", "messages", "No message has the role 'assistant'; add the answer to learn.")
        elif row.messages[-1].role != "assistant":
            field = f"messages[{len(row.messages) - 1}].role"
            yield Flaw("last_not_assistant", field, "The last message must be the assistant's answer.")
        elif not any(message.weight for _, message in answers):
            yield Flaw("no_target", "messages", "Every answer has weight 0: nothing to learn; give one weight 1.")
        for index, message in answers:
            if not message.content.strip():
                yield Flaw("empty_content", f"messages[{index}].content", "The answer is empty; write one.")

    def encode(self, rows: Sequence[ChatRow], tokenizer: Any, max_length: int) -> list[ChatExample | Flaw]:
        template = ChatTemplate(tokenizer)
        rendered = [_rendered(template, row) for row in rows]
        whole = [one for one in rendered if isinstance(one, Rendered)]
        tokens = iter(template.tokens(whole))
        return [
            one if isinstance(one, Flaw) else _example(row, one, next(tokens), max_length)
            for row, one in zip(rows, rendered, strict=True)
        ]

    def encode_prompt(self, messages: Sequence[Message], tokenizer: Any) -> list[int]:
        """What the model is given to answer. Raises ``jinja2.TemplateError`` where its template refuses it."""
        template = ChatTemplate(tokenizer)
        [tokens] = template.tokens([template.prompt(_plain(messages))])
        return tokens.ids

    def stop_tokens(self, model: Any, tokenizer: Any) -> set[int]:
        """Any of these ends an answer."""
        configured = model.generation_config.eos_token_id
        ends = configured if isinstance(configured, list) else [configured]
        known = {token for token in [*ends, tokenizer.eos_token_id] if token is not None}
        return known | ChatTemplate(tokenizer).end_of_turn()

    def prepare(self, examples: Sequence[ChatExample]) -> State:
        return {}

    def fits(self, example: ChatExample, state: State) -> Flaw | None:
        return None

    def base_state(self, directory: Path) -> State:
        return {}

    def load_model(self, directory: Path, state: State, dtype: torch.dtype) -> Any:
        from transformers import AutoModelForCausalLM

        return load_auto(AutoModelForCausalLM, directory, dtype)

    def targets(self, example: ChatExample) -> int:
        return len(example.weights) - example.weights.count(0.0)

    def weight(self, example: ChatExample) -> float:
        return sum(example.weights)

    def collate(self, examples: Sequence[ChatExample], state: State, pad: int) -> Batch:
        """``targets_N`` is token ``positions_N + 1`` of the flattened ids, and counts ``weights_N``."""
        import torch

        ids_BT = pad_right([example.ids for example in examples], pad)
        weights_BT = torch.zeros(ids_BT.shape)
        for index, example in enumerate(examples):
            weights_BT[index, : len(example.weights)] = torch.frombuffer(example.weights, dtype=torch.float32)
        targets_N = weights_BT.flatten().nonzero().squeeze(1)
        return {
            "ids_BT": ids_BT,
            "positions_N": targets_N - 1,
            "targets_N": ids_BT.flatten()[targets_N],
            "weights_N": weights_BT.flatten()[targets_N],
        }

    def loss(self, model: Any, batch: Batch, label_smoothing: float) -> Loss:
        from torch.nn.functional import cross_entropy

        logits_NV = target_logits(model, batch["ids_BT"], batch["positions_N"]).float()
        losses_N = cross_entropy(logits_NV, batch["targets_N"], reduction="none", label_smoothing=label_smoothing)
        return Loss(losses_N @ batch["weights_N"], (logits_NV.argmax(-1) == batch["targets_N"]).sum())


def _plain(messages: Sequence[Message]) -> list[dict[str, str]]:
    """As templates know them; OpenAI's ``developer`` is what they call ``system``."""
    return [
        {"role": "system" if message.role == "developer" else message.role, "content": message.content}
        for message in messages
    ]


def _rendered(template: ChatTemplate, row: ChatRow) -> Rendered | Flaw:
    try:
        return template.conversation(_plain(row.messages))
    except TemplateError as error:
        return Flaw("template", "messages", f"The base model's chat template refuses this conversation: {error}")


def _example(row: ChatRow, rendered: Rendered, tokens: Tokens, max_length: int) -> ChatExample | Flaw:
    weights = array("f", bytes(4 * len(tokens.ids)))
    for span in rendered.spans:
        if row.messages[span.message].weight:
            for position in tokens.covering(span):
                weights[position] = row.weight
    # Nothing comes before the first token to predict it from.
    weights[0] = 0.0
    cut = len(tokens.ids) > max_length
    if not any(weights[:max_length]):
        return Flaw(
            "too_long",
            "messages",
            f"The first answer to learn begins after the {max_length} tokens that a row may have; shorten what comes "
            "before it, or raise max_length where the base model allows it.",
        )
    return ChatExample(array("i", tokens.ids[:max_length]), cut, weights[:max_length])

"""Text completion on prompts with completions or on plain texts. No chat template is needed.

Row: ``{"prompt": "2 + 2 =", "completion": " 4"}`` or ``{"text": "Once upon a time …"}``. Targets
are the completion with its end token, or the complete text. The prompt is only context and may be
empty. A row longer than ``max_length`` is split into parts, and each target is trained once: a part
begins with the tokenizer's start token, if it has one, and the last token of the part before, which
are only context. A prompt is not repeated, and it must leave room for a target in the first part.
``weight`` scales the loss of a row. Output: no predictions; ``/v1/completions`` serves the model.
Loss: cross-entropy of each target token. Accuracy counts tokens.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from training.tasks.base import RowIssue
from training.tasks.support.causal import CausalExample, CausalTask, build_causal_example


class CompletionRow(BaseModel):
    """A prompt with its completion or a plain text."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)

    prompt: str | None = None
    completion: str | None = None
    text: str | None = None
    weight: float = Field(default=1.0, gt=0, le=1000)
    """Weight of this row in the loss."""


@dataclass(frozen=True)
class Completion(CausalTask[CompletionRow]):
    name = "completion"
    title = "Text completion; the model learns to complete prompts, or learns complete texts"
    row_schema = CompletionRow
    route = "completions"
    splits_rows = True

    def check_row(self, row: CompletionRow) -> Iterator[RowIssue]:
        pair = {"prompt": row.prompt, "completion": row.completion}
        given = [field for field, value in pair.items() if value is not None]
        if row.text is not None and given:
            yield RowIssue("wrong_value", given[0], f"The row has 'text' and '{given[0]}'; remove one of them.")
        if row.text is None:
            for field in [field for field in pair if field not in given]:
                yield RowIssue(
                    "missing_field", field, "The field is missing; add it, or give a complete text as 'text'."
                )
        for field, value in (("completion", row.completion), ("text", row.text)):
            if value is not None and not value.strip():
                yield RowIssue("empty_content", field, "The text is empty; add the text that the model should learn.")

    def encode(
        self, rows: Sequence[CompletionRow], processor: Any, max_length: int
    ) -> list[CausalExample | list[CausalExample] | RowIssue]:
        tokens = _TextEncoder(processor)
        starts = tokens.encode_start([row.text or row.prompt or row.completion or "" for row in rows])
        continuations = iter(tokens.encode_continuation([row.completion or "" for row in rows if row.prompt]))
        end = [] if processor.eos_token_id is None else [processor.eos_token_id]
        examples: list[CausalExample | list[CausalExample] | RowIssue] = []
        for row, start in zip(rows, starts, strict=True):
            prompt, target = (start, next(continuations)) if row.prompt else ([], start)
            ids = [*tokens.prefix_ids, *prompt, *target, *end]
            weights = array("f", [0.0]) * len(tokens.prefix_ids)
            weights += array("f", [row.weight if self.train_on_inputs else 0.0]) * len(prompt)
            weights += array("f", [row.weight]) * len(target + end)
            field = "text" if row.completion is None else "completion"
            example = build_causal_example(ids[:max_length], weights[:max_length], max_length, field)
            if isinstance(example, RowIssue) or len(ids) <= max_length:
                examples.append(example)
            else:
                rest = _iter_later_parts(ids, weights, tokens.prefix_ids, max_length)
                examples.append([example, *rest])
        return examples

    def encode_prompt(self, prompt: str, tokenizer: Any) -> list[int]:
        """Return the token ids of the prompt."""
        tokens = _TextEncoder(tokenizer)
        return [*tokens.prefix_ids, *tokens.encode_start([prompt])[0]]


def _iter_later_parts(
    ids: list[int], weights: array[float], prefix_ids: list[int], max_length: int
) -> Iterator[CausalExample]:
    """Yield the parts of a long row after the first ``max_length`` tokens.

    The token before a part's targets is repeated as context, because no token can predict the
    first one of a sequence.
    """
    context = len(prefix_ids) + 1
    for start in range(max_length, len(ids), max_length - context):
        end = start + max_length - context
        part_ids = array("i", [*prefix_ids, *ids[start - 1 : end]])
        part_weights = array("f", [0.0]) * context + weights[start:end]
        yield CausalExample(len(part_ids), False, part_ids, part_weights, continues=True)


class _TextEncoder:
    """Encoder of plain texts. A control token's name in a text is plain text."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        [bare], [full] = self.encode_start(["a"]), tokenizer(["a"])["input_ids"]
        at = next(at for at in range(len(full)) if full[at : at + len(bare)] == bare)
        self.prefix_ids: list[int] = full[:at]
        """Tokens that the tokenizer puts before every text, e.g. BOS."""
        # A SentencePiece tokenizer prepends a space to a text, which would separate prompt and
        # completion. After a newline it adds none.
        self._continuation_lead = "" if self._encode_after("\n", ["a"]) == [bare] else "\n"

    def encode_start(self, texts: list[str]) -> list[list[int]]:
        """Encode texts that begin a sequence."""
        return self._encode_after("", texts)

    def encode_continuation(self, texts: list[str]) -> list[list[int]]:
        """Encode texts that continue a sequence."""
        return self._encode_after(self._continuation_lead, texts)

    def _encode_after(self, lead: str, texts: list[str]) -> list[list[int]]:
        if not texts:
            return []
        encoded = self._tokenizer(
            [lead + text for text in texts],
            add_special_tokens=False,
            split_special_tokens=True,
            return_offsets_mapping=True,
        )
        return [
            [token for token, (_, end) in zip(ids, offsets, strict=True) if end > len(lead) or not lead]
            for ids, offsets in zip(encoded["input_ids"], encoded["offset_mapping"], strict=True)
        ]

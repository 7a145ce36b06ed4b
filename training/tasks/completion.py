"""Text that goes on: the model learns what follows a prompt, or a text whole. No chat template is needed.

Row: ``{"prompt": "2 + 2 =", "completion": " 4"}``: the completion is learnt, and that it ends there; the prompt, which
may be empty, is read. Or ``{"text": "Once upon a time …"}``: all of it is learnt; what is longer than ``max_length`` is
cut there. ``weight`` scales a row. No predictions: it answers at ``/v1/completions``.
Loss: cross-entropy of each learnt token; accuracy counts tokens.
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
    """A prompt with its completion, or a text."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)

    prompt: str | None = None
    completion: str | None = None
    text: str | None = None
    weight: float = Field(default=1.0, gt=0, le=1000)
    """How much this row counts, beside others."""


@dataclass(frozen=True)
class Completion(CausalTask[CompletionRow]):
    name = "completion"
    title = "Text that goes on; the model learns what follows a prompt, or whole texts"
    row_schema = CompletionRow
    route = "completions"

    def check_row(self, row: CompletionRow) -> Iterator[RowIssue]:
        pair = {"prompt": row.prompt, "completion": row.completion}
        given = [field for field, value in pair.items() if value is not None]
        if row.text is not None and given:
            yield RowIssue("wrong_value", given[0], f"The row has 'text' and '{given[0]}'; keep one of them.")
        if row.text is None:
            for field in [field for field in pair if field not in given]:
                yield RowIssue("missing_field", field, "The field is missing; add it, or give the whole as 'text'.")
        for field, value in (("completion", row.completion), ("text", row.text)):
            if value is not None and not value.strip():
                yield RowIssue("empty_content", field, "It is empty; write what the model should learn.")

    def encode(self, rows: Sequence[CompletionRow], processor: Any, max_length: int) -> list[CausalExample | RowIssue]:
        tokens = _TextEncoder(processor)
        begun = tokens.encode_start([row.text or row.prompt or row.completion or "" for row in rows])
        continued = iter(tokens.encode_continuation([row.completion or "" for row in rows if row.prompt]))
        end = [] if processor.eos_token_id is None else [processor.eos_token_id]
        examples: list[CausalExample | RowIssue] = []
        for row, first in zip(rows, begun, strict=True):
            asked, learnt = (first, next(continued)) if row.prompt else ([], first)
            ids = [*tokens.prefix_ids, *asked, *learnt, *end]
            weights = array("f", [0.0]) * len(tokens.prefix_ids)
            weights += array("f", [row.weight if self.train_on_inputs else 0.0]) * len(asked)
            weights += array("f", [row.weight]) * len(learnt + end)
            field = "text" if row.completion is None else "completion"
            examples.append(build_causal_example(ids, weights, max_length, field))
        return examples

    def encode_prompt(self, prompt: str, tokenizer: Any) -> list[int]:
        """What the model is given to continue."""
        tokens = _TextEncoder(tokenizer)
        return [*tokens.prefix_ids, *tokens.encode_start([prompt])[0]]


class _TextEncoder:
    """How a tokenizer writes texts. A control token's name in a text is text."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        [alone], [whole] = self.encode_start(["a"]), tokenizer(["a"])["input_ids"]
        at = next(at for at in range(len(whole)) if whole[at : at + len(alone)] == alone)
        self.prefix_ids: list[int] = whole[:at]
        """The tokens that it puts before every text: BOS, where it has one."""
        # A tokenizer that begins a text with a space of its own (SentencePiece) would put it between prompt and
        # completion too; behind a newline it adds none.
        self._continuation_lead = "" if self._encode_after("\n", ["a"]) == [alone] else "\n"

    def encode_start(self, texts: list[str]) -> list[list[int]]:
        """Of texts that nothing comes before."""
        return self._encode_after("", texts)

    def encode_continuation(self, texts: list[str]) -> list[list[int]]:
        """Of texts from the middle of one."""
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

"""Encoding of texts and pairs of texts, shared by tasks with encoder models."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict

from training.tasks.base import Batch, RowIssue, TextExample, pad_right


class TextInput(BaseModel):
    """A text or a pair of texts."""

    model_config = ConfigDict(extra="ignore")

    text: str
    text_pair: str | None = None


@dataclass(frozen=True, slots=True)
class EncoderExample(TextExample):
    """An encoded text or pair of texts."""

    token_type_ids: array[int] | None
    """(T,) int32: 0 for the first text, 1 for the second. None if the model has no token types."""


def check_text(row: TextInput) -> Iterator[RowIssue]:
    if not row.text.strip():
        yield RowIssue("empty_content", "text", "The text is empty; add text or remove the row.")


def reject_empty_text(example: EncoderExample) -> RowIssue | None:
    """Return an issue if the tokenizer finds no tokens, which leaves the model nothing to read."""
    if example.size:
        return None
    message = "The base model's tokenizer finds no tokens in this text; use other characters, or remove the row."
    return RowIssue("empty_content", "text", message)


def encode_texts(texts: Sequence[TextInput], tokenizer: Any, max_length: int) -> Iterator[EncoderExample]:
    """Encode texts in order, truncated to ``max_length``; of a pair, the longer text first."""
    # Pairs and single texts may be mixed, but a call of the tokenizer accepts only one kind.
    encoded: dict[int, tuple[list[int], list[int] | None]] = {}
    for paired in (False, True):
        indices = [index for index, row in enumerate(texts) if (row.text_pair is not None) == paired]
        if indices:
            encoded |= dict(zip(indices, _encode([texts[index] for index in indices], tokenizer, {}), strict=True))
    for index, row in enumerate(texts):
        ids, types = encoded[index]
        truncated = len(ids) > max_length
        if truncated:
            [(ids, types)] = _encode([row], tokenizer, {"truncation": True, "max_length": max_length})
        yield EncoderExample(len(ids), truncated, array("i", ids), None if types is None else array("i", types))


def _encode(
    rows: Sequence[TextInput], tokenizer: Any, options: dict[str, Any]
) -> Iterator[tuple[list[int], list[int] | None]]:
    """Yield token ids and token types.

    The name of a control token in a text, such as ``[SEP]``, is plain text.
    """
    pairs = None if rows[0].text_pair is None else [row.text_pair for row in rows]
    encoded = tokenizer([row.text for row in rows], pairs, split_special_tokens=True, **options)
    types = encoded.get("token_type_ids") or [None] * len(rows)
    yield from zip(encoded["input_ids"], types, strict=True)


def collate_texts(examples: Sequence[EncoderExample], pad: int) -> Batch:
    """Return the arguments of an encoder's forward, all (B, T)."""
    batch = {
        "input_ids": pad_right([example.ids for example in examples], pad),
        "attention_mask": pad_right([array("i", [1]) * len(example.ids) for example in examples], 0),
    }
    types = [example.token_type_ids for example in examples if example.token_type_ids is not None]
    if types:
        batch["token_type_ids"] = pad_right(types, 0)
    return batch

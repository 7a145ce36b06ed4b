"""Texts and pairs of texts as an encoder reads them; shared by the tasks that understand rather than write."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict

from training.tasks.base import Batch, RowIssue, TextExample, pad_right


class TextInput(BaseModel):
    """What is read."""

    model_config = ConfigDict(extra="ignore")

    text: str
    text_pair: str | None = None


@dataclass(frozen=True, slots=True)
class EncoderExample(TextExample):
    """A text or a pair of texts."""

    token_type_ids: array[int] | None
    """(T,) int32: 0 for the first text, 1 for the second; None where the model knows no types."""


def check_text(row: TextInput) -> Iterator[RowIssue]:
    if not row.text.strip():
        yield RowIssue("empty_content", "text", "The text is empty; write one or leave the row out.")


def encode_texts(texts: Sequence[TextInput], tokenizer: Any, max_length: int) -> Iterator[EncoderExample]:
    """In order; what is longer than ``max_length`` is cut, the longer of a pair first."""
    # Pairs and single texts may be mixed: the tokenizer takes only one kind at a time.
    encoded: dict[int, tuple[list[int], list[int] | None]] = {}
    for paired in (False, True):
        chosen = [index for index, row in enumerate(texts) if (row.text_pair is not None) == paired]
        if chosen:
            encoded |= dict(zip(chosen, _encode([texts[index] for index in chosen], tokenizer, {}), strict=True))
    for index, row in enumerate(texts):
        ids, types = encoded[index]
        cut = len(ids) > max_length
        if cut:
            [(ids, types)] = _encode([row], tokenizer, {"truncation": True, "max_length": max_length})
        yield EncoderExample(len(ids), cut, array("i", ids), None if types is None else array("i", types))


def _encode(
    rows: Sequence[TextInput], tokenizer: Any, options: dict[str, Any]
) -> Iterator[tuple[list[int], list[int] | None]]:
    """Token ids and types. A control token's name in a text is text: ``[SEP]`` there separates nothing."""
    pairs = None if rows[0].text_pair is None else [row.text_pair for row in rows]
    encoded = tokenizer([row.text for row in rows], pairs, split_special_tokens=True, **options)
    types = encoded.get("token_type_ids") or [None] * len(rows)
    yield from zip(encoded["input_ids"], types, strict=True)


def collate_texts(examples: Sequence[EncoderExample], pad: int) -> Batch:
    """The arguments of an encoder's forward, all (B, T)."""
    batch = {
        "input_ids": pad_right([example.ids for example in examples], pad),
        "attention_mask": pad_right([array("i", [1]) * len(example.ids) for example in examples], 0),
    }
    types = [example.token_type_ids for example in examples if example.token_type_ids is not None]
    if types:
        batch["token_type_ids"] = pad_right(types, 0)
    return batch

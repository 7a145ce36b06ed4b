"""Questions with contexts, split into overlapping windows that fit the model."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from training.tasks.support.text import EncoderExample

OVERLAP_TOKENS = 128
"""Tokens that a window shares with the previous one, at most half of the window."""


@dataclass(frozen=True, slots=True)
class Window(EncoderExample):
    """A question and a part of its context."""

    context_start: int
    """Position in ``ids`` of the window's first context token; the others follow it."""
    char_starts: array[int]
    """First character in the context of each context token."""
    char_ends: array[int]
    """Exclusive end of each context token, in characters."""
    token_offset: int
    """Index of the first context token here among all tokens of the context."""

    def get_char_span(self, first: int, last: int) -> tuple[int, int]:
        """Return the characters of the context from position ``first`` to ``last``."""
        return self.char_starts[first - self.context_start], self.char_ends[last - self.context_start]

    def compute_margin(self, first: int, last: int) -> int:
        """Return the number of context tokens on the shorter side of tokens ``first`` to ``last``.

        Below 0 if the window does not contain all of them.
        """
        return min(first - self.token_offset, self.token_offset + len(self.char_starts) - 1 - last)


class Passage(NamedTuple):
    """A context with its windows."""

    windows: list[Window]
    """Windows in order. Empty if the tokenizer finds no tokens."""
    offsets: list[tuple[int, int]]
    """Start and exclusive end of each token, in characters."""
    question_truncated: bool
    """True if the question was truncated."""

    def find_tokens(self, start: int, end: int) -> tuple[int, int] | None:
        """Return the indices of the first and last token that overlap these characters, or None."""
        inside = [
            index
            for index, (token_start, token_end) in enumerate(self.offsets)
            if token_start < end and token_end > start
        ]
        return (inside[0], inside[-1]) if inside else None


def encode_passages(pairs: Sequence[tuple[str, str]], tokenizer: Any, max_length: int) -> Iterator[Passage]:
    """Encode (question, context) pairs in order. A question takes at most half of a window."""
    encoded = _encode(pairs, tokenizer)
    for (question, context), row in zip(pairs, encoded, strict=True):
        excess = len(row.ids) - len(row.context_offsets) - max_length // 2
        if row.context_offsets and excess > 0 and len(row.ids) > max_length:
            token_count = max(0, len(row.question_offsets) - excess)
            shortened = question[: row.question_offsets[token_count - 1][1]] if token_count else ""
            [row] = _encode([(shortened, context)], tokenizer)
            yield Passage(list(_split_into_windows(row, max_length)), row.context_offsets, question_truncated=True)
        else:
            yield Passage(list(_split_into_windows(row, max_length)), row.context_offsets, question_truncated=False)


class _EncodedPair(NamedTuple):
    """A question and its complete context, joined by the tokenizer."""

    ids: list[int]
    token_type_ids: list[int] | None
    question_offsets: list[tuple[int, int]]
    """Characters of each token of the question."""
    context_offsets: list[tuple[int, int]]
    context_start: int
    """Position of the context's first token."""


def _encode(pairs: Sequence[tuple[str, str]], tokenizer: Any) -> list[_EncodedPair]:
    """Encode pairs in full. The name of a control token in a text is plain text."""
    questions, contexts = zip(*pairs, strict=True)
    encoded = tokenizer(list(questions), list(contexts), split_special_tokens=True, return_offsets_mapping=True)
    rows = []
    for number, ids in enumerate(encoded["input_ids"]):
        sides, offsets = encoded.sequence_ids(number), encoded["offset_mapping"][number]
        question, context = ([at for at, token_side in enumerate(sides) if token_side == side] for side in (0, 1))
        types = encoded["token_type_ids"][number] if "token_type_ids" in encoded else None
        first = context[0] if context else len(ids)
        inside = [_trim_leading_space(contexts[number], *offsets[at]) for at in context]
        rows.append(_EncodedPair(ids, types, [offsets[at] for at in question], inside, first))
    return rows


def _trim_leading_space(text: str, start: int, end: int) -> tuple[int, int]:
    """Exclude leading space from a token's characters; SentencePiece includes it."""
    return end - len(text[start:end].lstrip()), end


def _split_into_windows(row: _EncodedPair, max_length: int) -> Iterator[Window]:
    """Yield the windows of a pair. Each contains all tokens before and after the context."""
    capacity = max(1, max_length - len(row.ids) + len(row.context_offsets))
    step = capacity - min(OVERLAP_TOKENS, capacity // 2)
    context_end = row.context_start + len(row.context_offsets)
    for start in range(0, len(row.context_offsets), step):
        part = slice(row.context_start + start, min(row.context_start + start + capacity, context_end))
        ids = row.ids[: row.context_start] + row.ids[part] + row.ids[context_end:]
        types = (
            row.token_type_ids
            and row.token_type_ids[: row.context_start] + row.token_type_ids[part] + row.token_type_ids[context_end:]
        )
        spans = row.context_offsets[start : start + capacity]
        yield Window(
            size=len(ids),
            truncated=False,
            ids=array("i", ids),
            token_type_ids=None if types is None else array("i", types),
            context_start=row.context_start,
            char_starts=array("i", [first for first, _ in spans]),
            char_ends=array("i", [end for _, end in spans]),
            token_offset=start,
        )
        if part.stop == context_end:
            break

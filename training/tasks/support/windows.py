"""A question and the text that may answer it, in pieces that a model can read at once."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from training.tasks.support.text import EncoderExample

OVERLAP_TOKENS = 128
"""Tokens that a window shares with the one before it, unless that is more than half of it."""


@dataclass(frozen=True, slots=True)
class Window(EncoderExample):
    """The question and a part of the context."""

    context_start: int
    """Position in ``ids`` of the context's first token here; the others follow it."""
    char_starts: array[int]
    """First character in the context of each of those tokens."""
    char_ends: array[int]
    """The character behind its last."""
    token_offset: int
    """Index among all of the context's tokens of the first one here."""

    def get_char_span(self, first: int, last: int) -> tuple[int, int]:
        """Characters of the context that two positions and what is between them stand for."""
        return self.char_starts[first - self.context_start], self.char_ends[last - self.context_start]

    def compute_margin(self, first: int, last: int) -> int:
        """Context here on the shorter side of the context's tokens ``first`` to ``last``; below 0 where they are not
        all here."""
        return min(first - self.token_offset, self.token_offset + len(self.char_starts) - 1 - last)


class Passage(NamedTuple):
    """A context."""

    windows: list[Window]
    """In order; none where the tokenizer reads nothing."""
    offsets: list[tuple[int, int]]
    """Characters of each of its tokens: the first and the one behind the last."""
    question_truncated: bool
    """Whether the question lost its end."""

    def find_tokens(self, start: int, end: int) -> tuple[int, int] | None:
        """Indices of the first and the last token with a part in these characters; None where no token has one."""
        inside = [
            index
            for index, (context_start, behind) in enumerate(self.offsets)
            if context_start < end and behind > start
        ]
        return (inside[0], inside[-1]) if inside else None


def encode_passages(pairs: Sequence[tuple[str, str]], tokenizer: Any, max_length: int) -> Iterator[Passage]:
    """Of pairs of question and context, in order. A question has half of a window at most."""
    encoded = _encode(pairs, tokenizer)
    for (question, context), row in zip(pairs, encoded, strict=True):
        excess = len(row.ids) - len(row.context_offsets) - max_length // 2
        if row.context_offsets and excess > 0 and len(row.ids) > max_length:
            kept = max(0, len(row.question_offsets) - excess)
            shorter = question[: row.question_offsets[kept - 1][1]] if kept else ""
            [row] = _encode([(shorter, context)], tokenizer)
            yield Passage(list(_split_into_windows(row, max_length)), row.context_offsets, question_truncated=True)
        else:
            yield Passage(list(_split_into_windows(row, max_length)), row.context_offsets, question_truncated=False)


class _EncodedPair(NamedTuple):
    """A question and its whole context as the tokenizer joins them."""

    ids: list[int]
    token_type_ids: list[int] | None
    question_offsets: list[tuple[int, int]]
    """Characters of each of its tokens."""
    context_offsets: list[tuple[int, int]]
    context_start: int
    """Position of the context's first token."""


def _encode(pairs: Sequence[tuple[str, str]], tokenizer: Any) -> list[_EncodedPair]:
    """A control token's name in a text is text."""
    questions, contexts = zip(*pairs, strict=True)
    encoded = tokenizer(list(questions), list(contexts), split_special_tokens=True, return_offsets_mapping=True)
    rows = []
    for number, ids in enumerate(encoded["input_ids"]):
        sides, offsets = encoded.sequence_ids(number), encoded["offset_mapping"][number]
        question, context = ([at for at, one in enumerate(sides) if one == side] for side in (0, 1))
        types = encoded["token_type_ids"][number] if "token_type_ids" in encoded else None
        first = context[0] if context else len(ids)
        inside = [_trim_leading_space(contexts[number], *offsets[at]) for at in context]
        rows.append(_EncodedPair(ids, types, [offsets[at] for at in question], inside, first))
    return rows


def _trim_leading_space(text: str, start: int, end: int) -> tuple[int, int]:
    """SentencePiece tokenizers count the blank before a word to it."""
    return end - len(text[start:end].lstrip()), end


def _split_into_windows(row: _EncodedPair, max_length: int) -> Iterator[Window]:
    """What stands before the context and behind it is in every window."""
    room = max(1, max_length - len(row.ids) + len(row.context_offsets))
    step = room - min(OVERLAP_TOKENS, room // 2)
    behind = row.context_start + len(row.context_offsets)
    for start in range(0, len(row.context_offsets), step):
        part = slice(row.context_start + start, min(row.context_start + start + room, behind))
        ids = row.ids[: row.context_start] + row.ids[part] + row.ids[behind:]
        types = (
            row.token_type_ids
            and row.token_type_ids[: row.context_start] + row.token_type_ids[part] + row.token_type_ids[behind:]
        )
        spans = row.context_offsets[start : start + room]
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
        if part.stop == behind:
            break

"""A question and the text that may answer it, in pieces that a model can read at once."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from training.tasks.support.text import EncoderExample

OVERLAP = 128
"""Tokens that a window shares with the one before it, unless that is more than half of it."""


@dataclass(frozen=True, slots=True)
class Window(EncoderExample):
    """The question and a part of the context."""

    first: int
    """Position in ``ids`` of the context's first token here; the others follow it."""
    starts: array[int]
    """First character in the context of each of those tokens."""
    ends: array[int]
    """The character behind its last."""
    at: int
    """Index among all of the context's tokens of the first one here."""

    def text(self, first: int, last: int) -> tuple[int, int]:
        """Characters of the context that two positions and what is between them stand for."""
        return self.starts[first - self.first], self.ends[last - self.first]

    def margin(self, first: int, last: int) -> int:
        """Context here on the shorter side of the context's tokens ``first`` to ``last``; below 0 where they are not
        all here."""
        return min(first - self.at, self.at + len(self.starts) - 1 - last)


class Passage(NamedTuple):
    """A context."""

    windows: list[Window]
    """In order; none where the tokenizer reads nothing."""
    offsets: list[tuple[int, int]]
    """Characters of each of its tokens: the first and the one behind the last."""
    cut: bool
    """Whether the question lost its end."""

    def covering(self, start: int, end: int) -> tuple[int, int] | None:
        """Indices of the first and the last token with a part in these characters; None where no token has one."""
        inside = [index for index, (first, behind) in enumerate(self.offsets) if first < end and behind > start]
        return (inside[0], inside[-1]) if inside else None


def encode_passages(asked: Sequence[tuple[str, str]], tokenizer: Any, max_length: int) -> Iterator[Passage]:
    """Of pairs of question and context, in order. A question has half of a window at most."""
    encoded = _encode(asked, tokenizer)
    for (question, context), row in zip(asked, encoded, strict=True):
        excess = len(row.ids) - len(row.context) - max_length // 2
        if row.context and excess > 0 and len(row.ids) > max_length:
            kept = max(0, len(row.question) - excess)
            shorter = question[: row.question[kept - 1][1]] if kept else ""
            [row] = _encode([(shorter, context)], tokenizer)
            yield Passage(list(_windows(row, max_length)), row.context, cut=True)
        else:
            yield Passage(list(_windows(row, max_length)), row.context, cut=False)


class _Row(NamedTuple):
    """A question and its whole context as the tokenizer joins them."""

    ids: list[int]
    types: list[int] | None
    question: list[tuple[int, int]]
    """Characters of each of its tokens."""
    context: list[tuple[int, int]]
    first: int
    """Position of the context's first token."""


def _encode(asked: Sequence[tuple[str, str]], tokenizer: Any) -> list[_Row]:
    """A control token's name in a text is text."""
    questions, contexts = zip(*asked, strict=True)
    encoded = tokenizer(list(questions), list(contexts), split_special_tokens=True, return_offsets_mapping=True)
    rows = []
    for number, ids in enumerate(encoded["input_ids"]):
        sides, offsets = encoded.sequence_ids(number), encoded["offset_mapping"][number]
        question, context = ([at for at, one in enumerate(sides) if one == side] for side in (0, 1))
        types = encoded["token_type_ids"][number] if "token_type_ids" in encoded else None
        first = context[0] if context else len(ids)
        inside = [_trimmed(contexts[number], *offsets[at]) for at in context]
        rows.append(_Row(ids, types, [offsets[at] for at in question], inside, first))
    return rows


def _trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    """SentencePiece tokenizers count the blank before a word to it."""
    return end - len(text[start:end].lstrip()), end


def _windows(row: _Row, max_length: int) -> Iterator[Window]:
    """What stands before the context and behind it is in every window."""
    room = max(1, max_length - len(row.ids) + len(row.context))
    step = room - min(OVERLAP, room // 2)
    behind = row.first + len(row.context)
    for start in range(0, len(row.context), step):
        part = slice(row.first + start, min(row.first + start + room, behind))
        ids = row.ids[: row.first] + row.ids[part] + row.ids[behind:]
        types = row.types and row.types[: row.first] + row.types[part] + row.types[behind:]
        spans = row.context[start : start + room]
        yield Window(
            size=len(ids),
            cut=False,
            ids=array("i", ids),
            types=None if types is None else array("i", types),
            first=row.first,
            starts=array("i", [first for first, _ in spans]),
            ends=array("i", [end for _, end in spans]),
            at=start,
        )
        if part.stop == behind:
            break

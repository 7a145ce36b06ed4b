"""Text in which a control token's name is only text: ``SEAM`` cuts it in two, and no token reaches across a seam."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

# Unicode sets these code points aside for a program's own use; they are never interchanged.
SEAM, PROBE = "\ufdd0", "\ufdd1"


class Span(NamedTuple):
    """Characters of one answer, its end-of-turn token included, and the message that it is."""

    start: int
    end: int
    message: int


@dataclass(frozen=True)
class Rendered:
    """``pieces`` joined are the text; spans count its characters. A seam lies between two pieces."""

    pieces: list[str]
    spans: list[Span]


class Tokens(NamedTuple):
    ids: list[int]
    offsets: list[tuple[int, int]]
    """First character of each token and the one after its last."""

    def covering(self, span: Span) -> range:
        """Positions of the tokens that have a part in the span."""
        starts = [start for start, _ in self.offsets]
        first = bisect_left(starts, span.start)
        if first and self.offsets[first - 1][1] > span.start:
            first -= 1
        return range(first, bisect_left(starts, span.end))


def any_of(names: list[str]) -> re.Pattern[str]:
    longest_first = sorted(names, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first)) or "(?!)")


def shield(value: Any, names: re.Pattern[str]) -> Any:
    """Every string of a JSON value, keys too, with a seam in every name."""
    if isinstance(value, str):
        plain = value.replace(SEAM, "").replace(PROBE, "")
        return names.sub(lambda name: f"{name[0][0]}{SEAM}{name[0][1:]}", plain)
    if isinstance(value, dict):
        return {shield(key, names): shield(inner, names) for key, inner in value.items()}
    return [shield(inner, names) for inner in value] if isinstance(value, list) else value


def cut(text: str, spans: list[Span]) -> Rendered:
    """At its seams."""
    moved = [
        Span(span.start - text.count(SEAM, 0, span.start), span.end - text.count(SEAM, 0, span.end), span.message)
        for span in spans
    ]
    return Rendered(text.split(SEAM), moved)


def tokenise(tokenizer: Any, rendered: Sequence[Rendered]) -> list[Tokens]:
    plain = [index for index, one in enumerate(rendered) if len(one.pieces) == 1]
    tokens = [Tokens([], [])] * len(rendered)
    if plain:
        encoded = _encode(tokenizer, [rendered[index].pieces[0] for index in plain])
        for index, ids, offsets in zip(plain, encoded["input_ids"], encoded["offset_mapping"], strict=True):
            tokens[index] = Tokens(ids, offsets)
    for index, one in enumerate(rendered):
        if len(one.pieces) > 1:
            tokens[index] = _piecewise(tokenizer, one.pieces)
    return tokens


def _encode(tokenizer: Any, texts: list[str]) -> Any:
    return tokenizer(texts, add_special_tokens=False, return_offsets_mapping=True)


def _piecewise(tokenizer: Any, pieces: list[str]) -> Tokens:
    """As one text, but no token reaches across a seam."""
    ids: list[int] = []
    offsets: list[tuple[int, int]] = []
    at = 0
    for piece in pieces:
        # Behind a newline a SentencePiece tokenizer adds no space of its own to a piece from the middle.
        lead = "\n" if at else ""
        encoded = _encode(tokenizer, [lead + piece])
        for token, (start, end) in zip(encoded["input_ids"][0], encoded["offset_mapping"][0], strict=True):
            if end > len(lead):
                ids.append(token)
                offsets.append((max(start - len(lead), 0) + at, end - len(lead) + at))
        at += len(piece)
    return Tokens(ids, offsets)

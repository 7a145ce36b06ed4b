"""Text in which a control token's name is only text: ``SEAM`` cuts it in two, and no token reaches across a seam."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

# Unicode sets these code points aside for a program's own use; they are never interchanged.
TOKEN_BOUNDARY, PROBE = "\ufdd0", "\ufdd1"


class MessageSpan(NamedTuple):
    """Characters of one answer, its end-of-turn token included, and the message that it is."""

    start: int
    end: int
    message_index: int


@dataclass(frozen=True)
class RenderedText:
    """``pieces`` joined are the text; spans count its characters. A seam lies between two pieces."""

    pieces: list[str]
    spans: list[MessageSpan]


class TokenizedText(NamedTuple):
    ids: list[int]
    offsets: list[tuple[int, int]]
    """First character of each token and the one after its last."""

    def find_positions(self, span: MessageSpan) -> range:
        """Positions of the tokens that have a part in the span."""
        starts = [start for start, _ in self.offsets]
        first = bisect_left(starts, span.start)
        if first and self.offsets[first - 1][1] > span.start:
            first -= 1
        return range(first, bisect_left(starts, span.end))


def compile_names(names: list[str]) -> re.Pattern[str]:
    longest_first = sorted(names, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first)) or "(?!)")


def escape_special_tokens(value: Any, names: re.Pattern[str]) -> Any:
    """Every string of a JSON value, keys too, with a seam in every name."""
    if isinstance(value, str):
        plain = value.replace(TOKEN_BOUNDARY, "").replace(PROBE, "")
        return names.sub(lambda name: f"{name[0][0]}{TOKEN_BOUNDARY}{name[0][1:]}", plain)
    if isinstance(value, dict):
        return {escape_special_tokens(key, names): escape_special_tokens(inner, names) for key, inner in value.items()}
    return [escape_special_tokens(inner, names) for inner in value] if isinstance(value, list) else value


def split_at_boundaries(text: str, spans: list[MessageSpan]) -> RenderedText:
    """At its seams."""
    moved = [
        MessageSpan(
            span.start - text.count(TOKEN_BOUNDARY, 0, span.start),
            span.end - text.count(TOKEN_BOUNDARY, 0, span.end),
            span.message_index,
        )
        for span in spans
    ]
    return RenderedText(text.split(TOKEN_BOUNDARY), moved)


def tokenize(tokenizer: Any, rendered: Sequence[RenderedText]) -> list[TokenizedText]:
    plain = [index for index, one in enumerate(rendered) if len(one.pieces) == 1]
    tokens = [TokenizedText([], [])] * len(rendered)
    if plain:
        encoded = _encode(tokenizer, [rendered[index].pieces[0] for index in plain])
        for index, ids, offsets in zip(plain, encoded["input_ids"], encoded["offset_mapping"], strict=True):
            tokens[index] = TokenizedText(ids, offsets)
    for index, one in enumerate(rendered):
        if len(one.pieces) > 1:
            tokens[index] = _encode_pieces(tokenizer, one.pieces)
    return tokens


def _encode(tokenizer: Any, texts: list[str]) -> Any:
    return tokenizer(texts, add_special_tokens=False, return_offsets_mapping=True)


def _encode_pieces(tokenizer: Any, pieces: list[str]) -> TokenizedText:
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
    return TokenizedText(ids, offsets)

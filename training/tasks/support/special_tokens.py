"""Tokenization that treats the names of special tokens in content as plain text.

``TOKEN_BOUNDARY`` splits such a name, and no token crosses a boundary.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

# Unicode noncharacters: reserved for use inside a program and never interchanged.
TOKEN_BOUNDARY, MARKER_CHARACTER = "\ufdd0", "\ufdd1"


class MessageSpan(NamedTuple):
    """Characters of an answer, including its end-of-turn token, and the index of its message."""

    start: int
    end: int
    message_index: int
    body_start: int
    """End of the answer's reasoning; ``start`` if it has none."""
    is_target: bool = True
    """False: another sequence of the row has this answer as a target."""


@dataclass(frozen=True)
class RenderedText:
    """A rendered text, split at token boundaries. Spans count characters of the joined pieces."""

    pieces: list[str]
    spans: list[MessageSpan]


class TokenizedText(NamedTuple):
    """Tokens of a rendered text."""

    ids: list[int]
    offsets: list[tuple[int, int]]
    """Start and exclusive end of each token, in characters."""

    def find_positions(self, start: int, end: int) -> range:
        """Return the positions of the tokens that overlap these characters."""
        starts = [token_start for token_start, _ in self.offsets]
        first = bisect_left(starts, start)
        if first and self.offsets[first - 1][1] > start:
            first -= 1
        return range(first, bisect_left(starts, end))


def compile_names(names: list[str]) -> re.Pattern[str]:
    """Compile a pattern that matches any of ``names``, the longest first."""
    longest_first = sorted(names, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first)) or "(?!)")


def escape_special_tokens(value: Any, names: re.Pattern[str]) -> Any:
    """Insert a boundary into every name in the strings and keys of a JSON value."""
    if isinstance(value, str):
        plain = value.replace(TOKEN_BOUNDARY, "").replace(MARKER_CHARACTER, "")
        return names.sub(lambda name: f"{name[0][0]}{TOKEN_BOUNDARY}{name[0][1:]}", plain)
    if isinstance(value, dict):
        return {escape_special_tokens(key, names): escape_special_tokens(inner, names) for key, inner in value.items()}
    return [escape_special_tokens(inner, names) for inner in value] if isinstance(value, list) else value


def split_at_boundaries(text: str, spans: list[MessageSpan]) -> RenderedText:
    """Split a text at its boundaries and shift the spans accordingly."""
    shifted = [
        span._replace(
            start=span.start - text.count(TOKEN_BOUNDARY, 0, span.start),
            end=span.end - text.count(TOKEN_BOUNDARY, 0, span.end),
            body_start=span.body_start - text.count(TOKEN_BOUNDARY, 0, span.body_start),
        )
        for span in spans
    ]
    return RenderedText(text.split(TOKEN_BOUNDARY), shifted)


def tokenize(tokenizer: Any, rendered: Sequence[RenderedText]) -> list[TokenizedText]:
    """Tokenize texts in order. Texts without boundaries share one call of the tokenizer."""
    plain = [index for index, text in enumerate(rendered) if len(text.pieces) == 1]
    tokens = [TokenizedText([], [])] * len(rendered)
    if plain:
        encoded = _encode(tokenizer, [rendered[index].pieces[0] for index in plain])
        for index, ids, offsets in zip(plain, encoded["input_ids"], encoded["offset_mapping"], strict=True):
            tokens[index] = TokenizedText(ids, offsets)
    for index, text in enumerate(rendered):
        if len(text.pieces) > 1:
            tokens[index] = _encode_pieces(tokenizer, text.pieces)
    return tokens


def _encode(tokenizer: Any, texts: list[str]) -> Any:
    return tokenizer(texts, add_special_tokens=False, return_offsets_mapping=True)


def _encode_pieces(tokenizer: Any, pieces: list[str]) -> TokenizedText:
    """Tokenize the pieces of a text so that no token crosses a boundary."""
    ids: list[int] = []
    offsets: list[tuple[int, int]] = []
    at = 0
    for piece in pieces:
        # A SentencePiece tokenizer prepends a space to a text, but not after a newline.
        lead = "\n" if at else ""
        encoded = _encode(tokenizer, [lead + piece])
        for token, (start, end) in zip(encoded["input_ids"][0], encoded["offset_mapping"][0], strict=True):
            if end > len(lead):
                ids.append(token)
                offsets.append((max(start - len(lead), 0) + at, end - len(lead) + at))
        at += len(piece)
    return TokenizedText(ids, offsets)

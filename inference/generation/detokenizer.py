"""From the tokens of an answer to its text, as they come."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

REPLACEMENT_CHARACTER = "\ufffd"
"""What a tokenizer gives for bytes that are not yet a whole character."""

_BYTE_TOKEN = re.compile(r"<0x([0-9A-F]{2})>")


@dataclass
class TextDelta:
    """Text that is certain, and what was recorded of the tokens that begin in it."""

    text: str = ""
    records: list[Any] = field(default_factory=list)
    text_offsets: list[int] = field(default_factory=list)
    """Where in the whole text each of these tokens begins, in characters."""

    def __add__(self, other: TextDelta) -> TextDelta:
        return TextDelta(self.text + other.text, self.records + other.records, self.text_offsets + other.text_offsets)


class IncrementalDetokenizer:
    """The text of one answer. No character is given out before it is whole, nor any part of a stop string.

    All pieces joined are the decoding of all tokens, up to the first stop string. (Not so for a run of byte tokens
    that is no valid UTF-8, where tokenizers with byte fallback take back even the characters that were whole.)
    """

    def __init__(
        self,
        tokenizer: Any,
        stop: Sequence[str],
        prefix_ids: Sequence[int] = (),
        visible_special_ids: Collection[int] = (),
    ) -> None:
        """``before``: tokens that the text continues, so that a space between the two is not lost.

        ``shown``: control tokens that are text all the same; of every other one nothing is seen.
        """
        self._tokenizer = tokenizer
        added = tokenizer.added_tokens_decoder.items() if visible_special_ids else ()
        self._hidden_ids = {token for token, named in added if named.special and token not in visible_special_ids}
        self._skip_special_tokens = not visible_special_ids
        self._stop = stop
        self._ids = list(prefix_ids)
        # ids[context:done] are decoded again with each new token, as a decoder may look at its left neighbours.
        self._prefix_offset, self._read_offset = 0, len(self._ids)
        self._text = ""
        self._emitted_length = 0
        self._records: list[tuple[int, Any]] = []
        self.stopped = False
        """A stop string was met; what follows it is dropped."""

    def feed(self, token: int, record: Any = None) -> TextDelta:
        """Add a token. ``record`` is given back with the text that the token begins, if that is ever given out."""
        if record is not None:
            self._records.append((len(self._text), record))
        self._ids.append(token)
        fresh = self._decode_new_text()
        if fresh and not fresh.endswith(REPLACEMENT_CHARACTER):
            self._append_text(fresh)
        return self._emit_until(
            len(self._text) if self.stopped else len(self._text) - self._count_withheld_characters()
        )

    def finish(self) -> TextDelta:
        """What was held back, now that no token follows."""
        if not self.stopped:
            self._append_text(self._decode_new_text())
        piece = self._emit_until(len(self._text))
        if not self.stopped:
            piece += _delta_from_records(self._records)
            self._records = []
        return piece

    def _decode_new_text(self) -> str:
        known = self._decode(self._ids[self._prefix_offset : self._read_offset])
        return self._decode(self._ids[self._prefix_offset :])[len(known) :]

    def _decode(self, ids: list[int]) -> str:
        seen = [token for token in ids if token not in self._hidden_ids]
        text: str = self._tokenizer.decode(
            seen, skip_special_tokens=self._skip_special_tokens, clean_up_tokenization_spaces=False
        )
        return text

    def _append_text(self, new_text: str) -> None:
        searched = max(0, len(self._text) - max(map(len, self._stop), default=0) + 1)
        self._text += new_text
        self._prefix_offset, self._read_offset = self._read_offset, len(self._ids)
        found = [at for stop in self._stop if (at := self._text.find(stop, searched)) >= 0]
        if found:
            self._text, self.stopped = self._text[: min(found)], True

    def _count_withheld_characters(self) -> int:
        """Length of the longest end of the text with which a stop string begins."""
        longest = max(map(len, self._stop), default=0) - 1
        ends = (self._text[-length:] for length in range(min(longest, len(self._text)), 0, -1))
        return next((len(end) for end in ends if any(stop.startswith(end) for stop in self._stop)), 0)

    def _emit_until(self, end: int) -> TextDelta:
        piece = TextDelta(self._text[self._emitted_length : end]) + _delta_from_records(
            [(start, record) for start, record in self._records if start < end]
        )
        self._records = [(start, record) for start, record in self._records if start >= end]
        self._emitted_length = max(self._emitted_length, end)
        return piece


def _delta_from_records(records: Sequence[tuple[int, Any]]) -> TextDelta:
    return TextDelta("", [record for _, record in records], [start for start, _ in records])


class TokenDecoder:
    """A token's own text and bytes, also where it is only part of a character."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        decoder = json.dumps(json.loads(tokenizer.backend_tokenizer.to_str())["decoder"])
        self._byte_decoder = _build_byte_decoder() if '"ByteLevel"' in decoder else {}

    def to_text(self, token: int) -> str:
        text: str = self._tokenizer.decode([token], clean_up_tokenization_spaces=False)
        return text

    def to_bytes(self, token: int) -> list[int]:
        raw: str = self._tokenizer.convert_ids_to_tokens(token)
        if match := _BYTE_TOKEN.fullmatch(raw):
            return [int(match[1], 16)]
        if self._byte_decoder and all(char in self._byte_decoder for char in raw):
            return [self._byte_decoder[char] for char in raw]
        return list(self.to_text(token).encode())


def _build_byte_decoder() -> dict[str, int]:
    """The printable stand-ins of byte-level tokenizers (GPT-2): bytes without a glyph are moved up from 256."""
    plain = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAC + 1), *range(0xAE, 0xFF + 1)]
    moved = [byte for byte in range(256) if byte not in plain]
    return {**{chr(byte): byte for byte in plain}, **{chr(256 + at): byte for at, byte in enumerate(moved)}}

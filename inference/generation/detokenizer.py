"""Incremental detokenization: the text of generated tokens, one token at a time."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

REPLACEMENT_CHARACTER = "\ufffd"
"""Output of a tokenizer for the bytes of an incomplete character."""

_BYTE_TOKEN = re.compile(r"<0x([0-9A-F]{2})>")


@dataclass
class TextDelta:
    """New text that is final, and the records of the tokens that begin in it."""

    text: str = ""
    records: list[Any] = field(default_factory=list)
    text_offsets: list[int] = field(default_factory=list)
    """Start of each of these tokens in the complete text, in characters."""

    def __add__(self, other: TextDelta) -> TextDelta:
        return TextDelta(self.text + other.text, self.records + other.records, self.text_offsets + other.text_offsets)


class IncrementalDetokenizer:
    """Incremental detokenizer of one sequence.

    It emits complete characters only, and no part of a stop string.

    The joined deltas equal the decoding of all tokens up to the first stop string. The exception is
    a run of byte tokens that is invalid UTF-8: decoded together, tokenizers with byte fallback
    replace the whole run, including characters that this class has emitted.
    """

    def __init__(
        self,
        tokenizer: Any,
        stop: Sequence[str],
        prefix_ids: Sequence[int] = (),
        visible_special_ids: Collection[int] = (),
    ) -> None:
        """``prefix_ids``: tokens before the text; they preserve a space between prefix and text.

        ``visible_special_ids``: special tokens that appear in the text. All others are hidden.
        """
        self._tokenizer = tokenizer
        added_tokens = tokenizer.added_tokens_decoder.items() if visible_special_ids else ()
        self._hidden_ids = {
            id for id, added_token in added_tokens if added_token.special and id not in visible_special_ids
        }
        self._skip_special_tokens = not visible_special_ids
        self._stop = stop
        self._ids = list(prefix_ids)
        # ids[prefix_offset:read_offset] are decoded again with each new token: a token's text can
        # depend on the tokens before it.
        self._prefix_offset, self._read_offset = 0, len(self._ids)
        self._text = ""
        self._emitted_length = 0
        self._records: list[tuple[int, Any]] = []
        self.stopped = False
        """True if a stop string occurred. The text after it is dropped."""

    def feed(self, token: int, record: Any = None) -> TextDelta:
        """Add a token and return the new text.

        ``record`` is returned with the text that the token begins, if that text is ever emitted.
        """
        if record is not None:
            self._records.append((len(self._text), record))
        self._ids.append(token)
        new_text = self._decode_new_text()
        if new_text and not new_text.endswith(REPLACEMENT_CHARACTER):
            self._append_text(new_text)
        return self._emit_until(
            len(self._text) if self.stopped else len(self._text) - self._count_withheld_characters()
        )

    def finish(self) -> TextDelta:
        """Return the withheld text after the last token."""
        if not self.stopped:
            self._append_text(self._decode_new_text())
        delta = self._emit_until(len(self._text))
        if not self.stopped:
            delta += _delta_from_records(self._records)
            self._records = []
        return delta

    def _decode_new_text(self) -> str:
        read_text = self._decode(self._ids[self._prefix_offset : self._read_offset])
        return self._decode(self._ids[self._prefix_offset :])[len(read_text) :]

    def _decode(self, ids: list[int]) -> str:
        visible = [token for token in ids if token not in self._hidden_ids]
        text: str = self._tokenizer.decode(
            visible, skip_special_tokens=self._skip_special_tokens, clean_up_tokenization_spaces=False
        )
        return text

    def _append_text(self, new_text: str) -> None:
        search_start = max(0, len(self._text) - max(map(len, self._stop), default=0) + 1)
        self._text += new_text
        self._prefix_offset, self._read_offset = self._read_offset, len(self._ids)
        matches = [start for stop in self._stop if (start := self._text.find(stop, search_start)) >= 0]
        if matches:
            self._text, self.stopped = self._text[: min(matches)], True

    def _count_withheld_characters(self) -> int:
        """Return the length of the longest suffix of the text that is a prefix of a stop string."""
        max_length = max(map(len, self._stop), default=0) - 1
        suffixes = (self._text[-length:] for length in range(min(max_length, len(self._text)), 0, -1))
        return next((len(suffix) for suffix in suffixes if any(stop.startswith(suffix) for stop in self._stop)), 0)

    def _emit_until(self, end: int) -> TextDelta:
        delta = TextDelta(self._text[self._emitted_length : end]) + _delta_from_records(
            [(start, record) for start, record in self._records if start < end]
        )
        self._records = [(start, record) for start, record in self._records if start >= end]
        self._emitted_length = max(self._emitted_length, end)
        return delta


def _delta_from_records(records: Sequence[tuple[int, Any]]) -> TextDelta:
    return TextDelta("", [record for _, record in records], [start for start, _ in records])


class TokenDecoder:
    """Decoder of single tokens to text and bytes, also for tokens that are part of a character."""

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
    """Map the characters of byte-level tokenizers (GPT-2) to bytes.

    Printable bytes represent themselves. The others are represented by the characters from code
    point 256 on.
    """
    printable = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAC + 1), *range(0xAE, 0xFF + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return {**{chr(byte): byte for byte in printable}, **{chr(256 + at): byte for at, byte in enumerate(others)}}

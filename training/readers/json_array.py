"""The elements of a JSON array, one at a time, with the line each begins on."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple

from training.readers.strict_json import InvalidInput, decode_at

_WHITESPACE = " \t\r\n"
_CHUNK_BYTES = 1 << 16


class Element(NamedTuple):
    line: int
    value: Any
    """A ``Refused`` where it cannot be read, and then the last."""
    size: int = 0
    """Characters."""


def read_array(file: BinaryIO, max_characters: int) -> Iterator[Element]:
    """In order.

    ``limit``: characters of one element.
    """
    yield from _ArrayReader(file, max_characters)


class _ArrayReader:
    def __init__(self, file: BinaryIO, max_characters: int) -> None:
        self._file = file
        self._max_characters = max_characters
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._text = ""
        self._position = 0
        self._line = 1
        self._eof = False

    def __iter__(self) -> Iterator[Element]:
        try:
            self._expect("[", "An array begins with '['")
            if self._peek() == "]":
                self._advance(1)
            else:
                yield from self._iter_elements()
            if self._peek():
                raise InvalidInput("json", "Something follows the array's end; remove it.")
        except InvalidInput as error:
            yield Element(self._line, error)
        except UnicodeDecodeError as error:
            told = f"Not UTF-8 on this line or soon after ({error.reason}); save as UTF-8."
            yield Element(self._line, InvalidInput("encoding", told))

    def _iter_elements(self) -> Iterator[Element]:
        while True:
            self._peek()
            line = self._line
            yield Element(line, *self._read_value())
            if self._peek() == "]":
                self._advance(1)
                return
            self._expect(",", "Expected ',' or ']' behind an element")

    def _read_value(self) -> tuple[Any, int]:
        """And its size. Reads on while it is not whole: an error in its midst and its missing end look the same."""
        while True:
            try:
                value, end = decode_at(self._text, self._position)
            except InvalidInput as error:
                whole = error.code not in ("json", "nul")
                if whole or not self._read_chunk():
                    raise
                if len(self._text) - self._position > self._max_characters + _CHUNK_BYTES:
                    raise self._diagnose_long_element(error) from error
            else:
                if end - self._position > self._max_characters:
                    raise InvalidInput(
                        "line_too_long", f"An element is longer than {self._max_characters:,} characters; split it."
                    )
                size = end - self._position
                self._advance(size)
                return value, size

    def _diagnose_long_element(self, error: InvalidInput) -> InvalidInput:
        """An error far from the end of what was read is an error, not an element that goes on."""
        try:
            json.JSONDecoder().raw_decode(self._text, self._position)
        except json.JSONDecodeError as plain:
            # A string without its end is blamed on its start.
            if plain.pos - self._position < self._max_characters and "Unterminated" not in plain.msg:
                return error
        return InvalidInput(
            "line_too_long", f"An element is longer than {self._max_characters:,} characters; split it."
        )

    def _expect(self, char: str, message: str) -> None:
        if self._peek() != char:
            raise InvalidInput("json", f"{message}.")
        self._advance(1)

    def _peek(self) -> str:
        """The next character that is no blank; empty at the end."""
        while True:
            rest = len(self._text) - self._position
            blanks = (
                rest
                - len(self._text[self._position : self._position + _CHUNK_BYTES].lstrip(_WHITESPACE))
                - max(rest - _CHUNK_BYTES, 0)
            )
            self._advance(blanks)
            if self._position < len(self._text):
                return self._text[self._position]
            if not self._read_chunk():
                return ""

    def _advance(self, count: int) -> None:
        self._line += self._text.count("\n", self._position, self._position + count)
        self._position += count

    def _read_chunk(self) -> bool:
        if self._eof:
            return False
        raw = self._file.read(_CHUNK_BYTES)
        self._eof = not raw
        self._text = self._text[self._position :] + self._decoder.decode(raw, final=not raw)
        self._position = 0
        return True

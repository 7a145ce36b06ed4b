"""The elements of a JSON array, one at a time, with the line each begins on."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple

from training.readers.strict_json import Refused, decode_at

_BLANK = " \t\r\n"
_CHUNK = 1 << 16


class Element(NamedTuple):
    line: int
    value: Any
    """A ``Refused`` where it cannot be read, and then the last."""
    size: int = 0
    """Characters."""


def read_array(file: BinaryIO, limit: int) -> Iterator[Element]:
    """In order.

    ``limit``: characters of one element.
    """
    yield from _Elements(file, limit)


class _Elements:
    def __init__(self, file: BinaryIO, limit: int) -> None:
        self._file = file
        self._limit = limit
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._text = ""
        self._at = 0
        self._line = 1
        self._ended = False

    def __iter__(self) -> Iterator[Element]:
        try:
            self._expect("[", "An array begins with '['")
            if self._peek() == "]":
                self._advance(1)
            else:
                yield from self._elements()
            if self._peek():
                raise Refused("json", "Something follows the array's end; remove it.")
        except Refused as error:
            yield Element(self._line, error)
        except UnicodeDecodeError as error:
            told = f"Not UTF-8 on this line or soon after ({error.reason}); save as UTF-8."
            yield Element(self._line, Refused("encoding", told))

    def _elements(self) -> Iterator[Element]:
        while True:
            self._peek()
            line = self._line
            yield Element(line, *self._value())
            if self._peek() == "]":
                self._advance(1)
                return
            self._expect(",", "Expected ',' or ']' behind an element")

    def _value(self) -> tuple[Any, int]:
        """And its size. Reads on while it is not whole: an error in its midst and its missing end look the same."""
        while True:
            try:
                value, end = decode_at(self._text, self._at)
            except Refused as error:
                whole = error.code not in ("json", "nul")
                if whole or not self._more():
                    raise
                if len(self._text) - self._at > self._limit + _CHUNK:
                    raise self._too_long(error) from error
            else:
                if end - self._at > self._limit:
                    raise Refused("line_too_long", f"An element is longer than {self._limit:,} characters; split it.")
                size = end - self._at
                self._advance(size)
                return value, size

    def _too_long(self, error: Refused) -> Refused:
        """An error far from the end of what was read is an error, not an element that goes on."""
        try:
            json.JSONDecoder().raw_decode(self._text, self._at)
        except json.JSONDecodeError as plain:
            # A string without its end is blamed on its start.
            if plain.pos - self._at < self._limit and "Unterminated" not in plain.msg:
                return error
        return Refused("line_too_long", f"An element is longer than {self._limit:,} characters; split it.")

    def _expect(self, char: str, message: str) -> None:
        if self._peek() != char:
            raise Refused("json", f"{message}.")
        self._advance(1)

    def _peek(self) -> str:
        """The next character that is no blank; empty at the end."""
        while True:
            rest = len(self._text) - self._at
            blanks = rest - len(self._text[self._at : self._at + _CHUNK].lstrip(_BLANK)) - max(rest - _CHUNK, 0)
            self._advance(blanks)
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._more():
                return ""

    def _advance(self, count: int) -> None:
        self._line += self._text.count("\n", self._at, self._at + count)
        self._at += count

    def _more(self) -> bool:
        if self._ended:
            return False
        raw = self._file.read(_CHUNK)
        self._ended = not raw
        self._text = self._text[self._at :] + self._decoder.decode(raw, final=not raw)
        self._at = 0
        return True

"""Incremental reader of a JSON array: one element at a time, with the line on which it begins."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple

from training.readers.strict_json import InvalidInput, decode_at

_WHITESPACE = " \t\r\n"
_CHUNK_BYTES = 1 << 16


class Element(NamedTuple):
    """Element of the array."""

    line: int
    value: Any
    """``InvalidInput`` if the element cannot be read. It is the last element then."""
    size: int = 0
    """Characters of its text."""


def read_array(file: BinaryIO, max_characters: int) -> Iterator[Element]:
    """Yield the elements in order. ``max_characters`` is the limit per element."""
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
            self._expect("[", "An array must begin with '['")
            if self._peek() == "]":
                self._advance(1)
            else:
                yield from self._iter_elements()
            if self._peek():
                raise InvalidInput("json", "There is text after the end of the array; remove it.")
        except InvalidInput as error:
            yield Element(self._line, error)
        except UnicodeDecodeError as error:
            message = f"A byte on this line or soon after is not UTF-8 ({error.reason}); save the file as UTF-8."
            yield Element(self._line, InvalidInput("encoding", message))

    def _iter_elements(self) -> Iterator[Element]:
        while True:
            self._peek()
            line = self._line
            yield Element(line, *self._read_value())
            if self._peek() == "]":
                self._advance(1)
                return
            self._expect(",", "Write ',' or ']' after an element")

    def _read_value(self) -> tuple[Any, int]:
        """Read a value and return it with its size.

        A syntax error may mean that the end of the value is not read yet, so read on until it is
        parsed or the limit is exceeded.
        """
        while True:
            try:
                value, end = decode_at(self._text, self._position)
            except InvalidInput as error:
                is_final = error.code not in ("json", "nul")
                if is_final or not self._read_chunk():
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
        """Return ``error`` if it is far from the end of the text, else a ``line_too_long``
        error."""
        try:
            json.JSONDecoder().raw_decode(self._text, self._position)
        except json.JSONDecodeError as syntax_error:
            # The position of an unterminated string is its start.
            if syntax_error.pos - self._position < self._max_characters and "Unterminated" not in syntax_error.msg:
                return error
        return InvalidInput(
            "line_too_long", f"An element is longer than {self._max_characters:,} characters; split it."
        )

    def _expect(self, char: str, message: str) -> None:
        if self._peek() != char:
            raise InvalidInput("json", f"{message}.")
        self._advance(1)

    def _peek(self) -> str:
        """Skip whitespace and return the next character, or an empty string at the end."""
        while True:
            remaining = len(self._text) - self._position
            blanks = (
                remaining
                - len(self._text[self._position : self._position + _CHUNK_BYTES].lstrip(_WHITESPACE))
                - max(remaining - _CHUNK_BYTES, 0)
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

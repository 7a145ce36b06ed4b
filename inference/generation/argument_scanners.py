"""Incremental scanners for the end of a tool call's arguments. They read each character once."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Protocol

from training.readers.strict_json import InvalidInput, decode
from training.tasks.chat_format.tool_calls import ParameterFormat

_CONSTANTS: Mapping[str, Any] = {"true": True, "false": False, "null": None, "none": None}
"""Values as JSON and as Python write them, in lower case. Templates write either."""


class ArgumentScanner(Protocol):
    def find_end(self, text: str) -> int | None:
        """Return the end of the arguments in the text so far, or None."""


class JsonObjectScanner:
    """Scanner of a JSON object."""

    def __init__(self, start: int) -> None:
        self._position = start
        self._depth = 0
        self._in_string = self._escaped = False

    def find_end(self, text: str) -> int | None:
        for index in range(self._position, len(text)):
            self._consume(text[index])
            if not self._depth:
                return index + 1
        self._position = len(text)
        return None

    def _consume(self, char: str) -> None:
        if self._escaped:
            self._escaped = False
        elif self._in_string:
            self._escaped, self._in_string = char == "\\", char != '"'
        elif char == '"':
            self._in_string = True
        elif char in "{}":
            self._depth += 1 if char == "{" else -1


class ParameterScanner:
    """Scanner of elements like ``<parameter=name>value</parameter>``."""

    def __init__(self, start: int, shape: ParameterFormat) -> None:
        self._position = start
        self._opening, self._closing = shape.opening.strip(), shape.closing.strip()
        self._in_value = False

    def find_end(self, text: str) -> int | None:
        while True:
            if self._in_value:
                end = text.find(self._closing, self._position)
                if end < 0:
                    # The end of the text may hold a part of the closing tag.
                    self._position = max(self._position, len(text) - len(self._closing) + 1)
                    return None
                self._position, self._in_value = end + len(self._closing), False
            rest = text[self._position :].lstrip()
            if not rest.startswith(self._opening):
                return None if self._opening.startswith(rest) else len(text) - len(rest)
            self._position, self._in_value = len(text) - len(rest) + len(self._opening), True


def decode_parameters(text: str, shape: ParameterFormat, schema: Mapping[str, Any]) -> str | None:
    """Convert elements to a JSON object.

    ``schema``: JSON Schema of the arguments, which tells strings from other values. None if the
    elements are malformed.
    """
    properties = schema.get("properties") or {}
    arguments: dict[str, Any] = {}
    for element in text.split(shape.closing.strip())[:-1]:
        name, middle, value = element.strip().removeprefix(shape.opening.strip()).partition(shape.middle.strip())
        if not middle:
            return None
        # The template puts these line breaks around a value.
        value = value.removeprefix("\n") if shape.middle.endswith("\n") else value
        value = value.removesuffix("\n") if shape.closing.startswith("\n") else value
        arguments[name] = _decode_value(value, properties.get(name))
    return json.dumps(arguments, ensure_ascii=False)


def _decode_value(text: str, schema: Any) -> Any:
    kinds = schema.get("type") if isinstance(schema, Mapping) else None
    if kinds == "string" or (isinstance(kinds, list) and set(kinds) == {"string"}):
        return text
    if text.strip().lower() in _CONSTANTS:
        return _CONSTANTS[text.strip().lower()]
    try:
        return decode(text)
    except InvalidInput:
        return text

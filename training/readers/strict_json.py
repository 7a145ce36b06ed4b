"""Strict JSON decoder for rows of data files and request bodies.

It rejects what Python's decoder accepts beyond the standard: NaN, duplicate keys, lone surrogates.
"""

from __future__ import annotations

import json
import math
from typing import Any

MAX_DEPTH = 32
"""Nesting levels; real rows and bodies have about six."""
MAX_INTEGER_BITS = 64
"""Width of integers in databases and tensors."""


class InvalidInput(ValueError):
    """Invalid input, with an error code and a message that says how to fix it."""

    def __init__(self, code: str, message: str, field: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.field = field


def _parse_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        seen: set[str] = set()
        duplicate = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise InvalidInput("duplicate_key", f"The key '{_truncate(duplicate)}' occurs twice in one object; keep one.")
    return value


def _reject_constant(name: str) -> Any:
    raise InvalidInput("number", f"{name} is not a JSON number; remove it or write null.")


def _parse_float(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise InvalidInput("number", f"The number {_truncate(text)} is too large; write a smaller one.")
    return value


def _parse_int(text: str) -> int:
    # The length is checked first, because converting thousands of digits is itself the attack.
    if len(text) > 20 or not -(2 ** (MAX_INTEGER_BITS - 1)) <= int(text) < 2 ** (MAX_INTEGER_BITS - 1):
        raise InvalidInput(
            "number", f"The number {_truncate(text)} has more than {MAX_INTEGER_BITS} bits; write a smaller one."
        )
    return int(text)


_DECODER = json.JSONDecoder(
    object_pairs_hook=_parse_object, parse_constant=_reject_constant, parse_float=_parse_float, parse_int=_parse_int
)


def decode(text: str) -> Any:
    """Decode one JSON value. Raises ``InvalidInput`` if it is invalid or followed by other text."""
    value, end = decode_at(text, len(text) - len(text.lstrip(" \t\r\n")))
    if text[end:].strip(" \t\r\n"):
        raise InvalidInput(
            "json", f"Column {end + 1}: there is text after the value; write one value, and one object per line."
        )
    return value


def decode_at(text: str, start: int) -> tuple[Any, int]:
    """Decode the value at ``start`` and return it with its end. Raises ``InvalidInput``."""
    try:
        value, end = _DECODER.raw_decode(text, start)
    except json.JSONDecodeError as error:
        if "control character" in error.msg and text[error.pos : error.pos + 1] == "\0":
            raise InvalidInput("nul", f"Column {error.pos - start + 1}: there is a NUL byte; remove it.") from error
        raise InvalidInput("json", f"Column {error.pos - start + 1}: {error.msg}.") from error
    except RecursionError as error:
        raise _build_depth_error() from error
    if text.count("[", start, end) + text.count("{", start, end) > MAX_DEPTH:
        _check_depth(value, MAX_DEPTH)
    if text.find("\\u", start, end) >= 0:
        _reject_lone_surrogates(value, "")
    return value, end


def _build_depth_error() -> InvalidInput:
    return InvalidInput("depth", f"Objects and lists are nested deeper than {MAX_DEPTH} levels; flatten them.")


def _check_depth(value: Any, remaining: int) -> None:
    if isinstance(value, (dict, list)):
        if remaining == 0:
            raise _build_depth_error()
        for inner in value.values() if isinstance(value, dict) else value:
            _check_depth(inner, remaining - 1)


def _reject_lone_surrogates(value: Any, path: str) -> None:
    if isinstance(value, dict):
        for key, inner in value.items():
            _reject_lone_surrogates(key, path)
            _reject_lone_surrogates(inner, f"{path}.{key}" if path else key)
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            _reject_lone_surrogates(inner, f"{path}[{index}]")
    elif isinstance(value, str):
        if "\0" in value:
            raise InvalidInput("nul", "The text has a NUL character (\\u0000); remove it.", _truncate(path) or None)
        if not value.isascii() and any("\ud800" <= char <= "\udfff" for char in value):
            raise InvalidInput(
                "surrogate",
                "The text has a lone surrogate (\\ud800…\\udfff); write the full pair.",
                _truncate(path) or None,
            )


def _truncate(text: str) -> str:
    """Make text safe for a message: printable and short."""
    return text.encode("ascii", "backslashreplace").decode()[:80]

"""JSON as the standard has it: what Python's reader lets pass (NaN, a key twice, half a character) is refused.

Rows of data files and bodies of requests are read by this one reader.
"""

from __future__ import annotations

import json
import math
from typing import Any

DEPTH = 32
"""Real rows and bodies have about six levels."""
INTEGER_BITS = 64
"""What databases and tensors hold."""


class Refused(ValueError):
    """A code and what to change."""

    def __init__(self, code: str, message: str, field: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.field = field


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise Refused("duplicate_key", f"The key '{_short(twice)}' stands twice in one object; keep one.")
    return value


def _constant(name: str) -> Any:
    raise Refused("number", f"{name} is no JSON number; leave it out or write null.")


def _float(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise Refused("number", f"The number {_short(text)} is too large.")
    return value


def _int(text: str) -> int:
    # The length first: converting thousands of digits is itself the attack.
    if len(text) > 20 or not -(2 ** (INTEGER_BITS - 1)) <= int(text) < 2 ** (INTEGER_BITS - 1):
        raise Refused("number", f"The number {_short(text)} is too large: it has more than {INTEGER_BITS} bits.")
    return int(text)


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_constant, parse_float=_float, parse_int=_int)


def decode(text: str) -> Any:
    """One JSON value and nothing behind it but blanks. Raises ``Refused``."""
    value, end = decode_at(text, len(text) - len(text.lstrip(" \t\r\n")))
    if text[end:].strip(" \t\r\n"):
        raise Refused("json", f"Column {end + 1}: something follows the value; write one value, and one object a line.")
    return value


def decode_at(text: str, start: int) -> tuple[Any, int]:
    """The value at ``start`` and where it ends. Raises ``Refused``."""
    try:
        value, end = _DECODER.raw_decode(text, start)
    except json.JSONDecodeError as error:
        if "control character" in error.msg and text[error.pos : error.pos + 1] == "\0":
            raise Refused("nul", f"Column {error.pos - start + 1}: a NUL byte; remove it.") from error
        raise Refused("json", f"Column {error.pos - start + 1}: {error.msg}.") from error
    except RecursionError as error:
        raise _too_deep() from error
    if text.count("[", start, end) + text.count("{", start, end) > DEPTH:
        _measure(value, DEPTH)
    if text.find("\\u", start, end) >= 0:
        _refuse_half_characters(value, "")
    return value, end


def _too_deep() -> Refused:
    return Refused("depth", f"Objects and lists are nested deeper than {DEPTH} levels; make it flatter.")


def _measure(value: Any, left: int) -> None:
    if isinstance(value, (dict, list)):
        if left == 0:
            raise _too_deep()
        for inner in value.values() if isinstance(value, dict) else value:
            _measure(inner, left - 1)


def _refuse_half_characters(value: Any, path: str) -> None:
    if isinstance(value, dict):
        for key, inner in value.items():
            _refuse_half_characters(key, path)
            _refuse_half_characters(inner, f"{path}.{key}" if path else key)
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            _refuse_half_characters(inner, f"{path}[{index}]")
    elif isinstance(value, str):
        if "\0" in value:
            raise Refused("nul", "A NUL character (\\u0000); remove it.", _short(path) or None)
        if not value.isascii() and any("\ud800" <= char <= "\udfff" for char in value):
            raise Refused(
                "surrogate", "Half a character (a lone \\ud800…\\udfff); write it whole.", _short(path) or None
            )


def _short(text: str) -> str:
    """Fit for a message: printable and not endless."""
    return text.encode("ascii", "backslashreplace").decode()[:80]

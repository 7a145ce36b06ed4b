"""JSON bodies, read strictly: what two parsers could read in two ways, or a database cannot store, is refused.

Refused are bytes that are not UTF-8, NaN and infinities, integers beyond 64 bits, numbers that overflow, duplicate
keys, lone surrogates, NUL characters and nesting deeper than 32: each with status 400.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Coroutine
from typing import Any, NoReturn

from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response

from api.errors import InvalidRequest

MAX_DEPTH = 32
MAX_INTEGER = 2**63 - 1

# Possessive, and an unfinished string runs to the end: one pass over any input.
_STRINGS = re.compile(r'"(?:[^"\\]++|\\.?)*+(?:"|\Z)', re.DOTALL)
_NOT_BRACKETS = re.compile(r"[^\[\]{}]++")


def loads(data: bytes) -> Any:
    """Raises ``InvalidRequest``."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        _refuse("it is not UTF-8")
    if _depth(text) > MAX_DEPTH:
        _refuse(f"it is nested deeper than {MAX_DEPTH} levels")
    try:
        value = json.loads(
            text,
            object_pairs_hook=_object,
            parse_constant=lambda name: _refuse(f"{name} is not JSON"),
            parse_int=_integer,
            parse_float=_float,
        )
    except json.JSONDecodeError as error:
        _refuse(f"{error.msg} at line {error.lineno}, column {error.colno}")
    # Escapes such as \ud800 and \u0000 only show after parsing.
    if "\\u" in text or "\0" in text:
        _check_text(value)
    return value


def _refuse(reason: str) -> NoReturn:
    raise InvalidRequest(f"The body is not the JSON that this server takes: {reason}.", code="invalid_json")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        _refuse("an object has the same key twice")
    return found


def _integer(digits: str) -> int:
    # The length first: converting thousands of digits is itself the attack.
    if len(digits) > 20 or not -MAX_INTEGER - 1 <= int(digits) <= MAX_INTEGER:
        _refuse("an integer has more than 64 bits")
    return int(digits)


def _float(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        _refuse("a number is too large")
    return value


def _depth(text: str) -> int:
    """Deepest nesting; looked at first, since the parser itself would recurse."""
    deepest = depth = 0
    for bracket in _NOT_BRACKETS.sub("", _STRINGS.sub("", text)):
        depth += 1 if bracket in "[{" else -1
        deepest = max(deepest, depth)
    return deepest


def _check_text(value: Any) -> None:
    if isinstance(value, str):
        if "\0" in value:
            _refuse("a string has a NUL character")
        if any("\ud800" <= char <= "\udfff" for char in value):
            _refuse("a string has half of a surrogate pair")
    elif isinstance(value, dict):
        for key, item in value.items():
            _check_text(key)
            _check_text(item)
    elif isinstance(value, list):
        for item in value:
            _check_text(item)


class StrictRequest(Request):
    async def json(self) -> Any:
        return loads(await self.body())


class StrictRoute(APIRoute):
    """The route class of every router under ``/v1``: FastAPI asks its request for the body's JSON."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler = super().get_route_handler()

        async def strict(request: Request) -> Response:
            return await handler(StrictRequest(request.scope, request.receive))

        return strict

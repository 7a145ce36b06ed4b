"""JSON bodies that break servers, for any route: variations of a body that the route accepts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


def build_hostile_bodies(valid_body: Mapping[str, Any]) -> dict[str, bytes]:
    """Return bodies with one violation each that no route may accept; the rest is
    ``valid_body``."""

    def field(name: str, value: str) -> bytes:
        head = json.dumps(valid_body, ensure_ascii=False)[:-1]
        return f'{head}{", " if valid_body else ""}"{name}": {value}}}'.encode()

    first = next(iter(valid_body), "a")
    return {
        "NaN": field("x", "NaN"),
        "Infinity": field("x", "Infinity"),
        "-Infinity": field("x", "-Infinity"),
        "1e400": field("x", "1e400"),
        "NaN in a value that is refused": field("x", "[NaN]"),
        "list of NaN": field("x", "[NaN, NaN]"),
        "lone surrogate": field("x", r'"\ud800"'),
        "lone surrogate in a field's name": field(r"\udfff", "1"),
        "surrogates in the wrong order": field("x", r'"\udc00\ud800"'),
        "depth 40": field("x", "[" * 40 + "]" * 40),
        "depth 400": field("x", "[" * 400 + "]" * 400),
        "depth 900": field("x", "[" * 900 + "]" * 900),
        "depth 100000": b"[" * 100_000,
        "objects to depth 900": field("x", '{"a":' * 900 + "1" + "}" * 900),
        "duplicate key": field(first, '"other"') if valid_body else b'{"a": 1, "a": 1}',
        "duplicate key, deep": field("x", '{"a": "1", "a": "2"}'),
        "4000 digits": field("x", "1" * 4000),
        "beyond int64": field("x", str(2**63)),
        "below int64": field("x", str(-(2**63) - 1)),
        "NUL": field("x", r'"a\u0000b"'),
        "raw NUL": b'{"x": "a\0b"}',
        "UTF-16": json.dumps(valid_body).encode("utf-16"),
        "UTF-8 with BOM": b"\xef\xbb\xbf" + json.dumps(valid_body).encode(),
        "not UTF-8": b'{"x": "\xff\xfe"}',
        "unknown field": field("learning_rte", "1"),
        "a list": b"[1, 2]",
        "a number": b"3",
        "true": b"true",
        "null": b"null",
        "nothing": b"",
        "cut short": json.dumps({"x": 1, **valid_body}).encode()[:-3],
        "trailing comma": b'{"x": "a",}',
        "two values": b"{} {}",
        "single quotes": b"{'x': 'a'}",
        "control character in a string": b'{"x": "a\nb"}',
        "quotes that never end": b'"' + b'\\"' * 100_000,
    }


EMPTY_BODIES = frozenset({"null", "nothing"})
"""Names of the bodies that a route with an optional body treats as no body."""

"""A few rows of every task, to try a base model with before a user has data."""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Mapping
from typing import Any

Row = dict[str, Any]

_QUESTION = {"role": "user", "content": "Which planet is the largest?"}
_ANSWER = {"role": "assistant", "content": "Jupiter."}
_TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Return the weather of a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
_CALL = {
    "role": "assistant",
    "content": None,
    "tool_calls": [
        {"id": "call00001", "type": "function", "function": {"name": "get_weather", "arguments": '{"city": "Oslo"}'}}
    ],
}

TEMPLATE_FEATURES: Mapping[str, Row] = {
    "question and answer": {"messages": [_QUESTION, _ANSWER]},
    "system message": {"messages": [{"role": "system", "content": "Be brief."}, _QUESTION, _ANSWER]},
    "several turns": {"messages": [_QUESTION, _ANSWER, {"role": "user", "content": "And the smallest?"}, _ANSWER]},
    "tools": {
        "messages": [
            {"role": "user", "content": "How is the weather in Oslo?"},
            _CALL,
            {"role": "tool", "tool_call_id": "call00001", "content": "Rain, 8 degrees."},
            {"role": "assistant", "content": "It rains, at 8 degrees."},
        ],
        "tools": [_TOOL],
    },
    "reasoning": {"messages": [_QUESTION, {**_ANSWER, "reasoning_content": "Jupiter has the most mass."}]},
}
"""Feature of a chat template -> a row with it."""


def _build_png(color: tuple[int, int, int], size: int = 32) -> str:
    """Build a picture of one color, as base64 of a PNG file (W3C Portable Network Graphics)."""

    def build_chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", size, size, 8, 2, 0, 0, 0)
    pixels = (b"\0" + bytes(color) * size) * size
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(pixels)), (b"IEND", b""))
    return base64.b64encode(b"\x89PNG\r\n\x1a\n" + b"".join(build_chunk(*chunk) for chunk in chunks)).decode()


SAMPLE_ROWS: Mapping[str, list[Row]] = {
    "chat": [TEMPLATE_FEATURES["question and answer"]] * 8,
    "completion": [{"prompt": f"{number} and {number} make", "completion": f" {2 * number}."} for number in range(8)],
    "seq2seq": [{"source": f"number {number}", "target": f"{number} number"} for number in range(8)],
    "text-classification": [
        {"text": f"{word} {number}", "label": word} for number in range(4) for word in ("apple", "pear")
    ],
    "text-regression": [{"text": "long " * number, "target": float(number)} for number in range(1, 9)],
    "token-classification": [
        {"tokens": [name, "lives", "in", "Rome"], "tags": ["B-PER", "O", "O", "B-LOC"]}
        for name in ("Anna", "Bo", "Carl", "Dora", "Emil", "Frida", "Gus", "Ivo")
    ],
    "question-answering": [
        {"question": "What is sold?", "context": f"They sell {thing}.", "answers": [{"text": thing, "start": 10}]}
        for thing in ("bread", "tea", "wine", "ink", "rope", "salt", "silk", "nails")
    ],
    "embedding": [
        {"anchor": f"{word} one", "positive": f"two {word}"} for word in ("sun", "rain", "snow", "wind", "fog", "ice")
    ],
    "image-classification": [
        {"image": _build_png(color), "label": label}
        for label, color in {"red": (200, 30, 30), "blue": (30, 30, 200)}.items()
        for _ in range(4)
    ],
}
"""Task -> rows that train it for a step or two."""

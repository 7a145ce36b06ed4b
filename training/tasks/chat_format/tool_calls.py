"""Format of a base model's tool calls, inferred from its chat template.

Two probe calls are rendered. The text before, between, and after their names and arguments is the
format. Ids of calls may differ in an answer.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import TemplateError

from training.readers.strict_json import InvalidInput, decode_at
from training.tasks.chat_format.conversation import FieldOmitted
from training.tasks.chat_format.template import ChatTemplate

_PROBE_NAME = "probe_function"
_PROBE_IDS = ("probeid01", "probeid02")
_PROBE_ARGUMENTS = {"probe_key": "probe_value"}
_PROBE_TOOL = {
    "type": "function",
    "function": {"name": _PROBE_NAME, "description": "a", "parameters": {"type": "object", "properties": {}}},
}

NAME_PATTERN, ID_PATTERN = re.compile(r"[a-zA-Z0-9_-]{1,64}"), re.compile(r"[\w-]{0,64}")

_WHITESPACE_PATTERN = re.compile(r"\s*")


class Whitespace(str):
    """White space of the template. An answer may have more, less, or none."""


FormatPart = str | re.Pattern[str]
"""Literal text, ``Whitespace``, ``NAME_PATTERN``, or ``ID_PATTERN``."""


@dataclass(frozen=True)
class FormatMatch:
    """End of a match of :func:`match_format`, or whether more text could complete it."""

    end: int | None = None
    is_partial: bool = False
    name: str = ""


@dataclass(frozen=True)
class ToolCallFormat:
    """Text around the calls of an answer.

    ``prefix`` opens the first call and ends with the opening brace of its arguments. ``separator``
    is the text between the arguments of two calls. ``suffix`` follows the last arguments. The name
    of a call precedes its arguments, or follows them (Hermes 2).
    """

    prefix: tuple[FormatPart, ...]
    separator: tuple[FormatPart, ...] | None
    """None if a turn can hold only one call."""
    suffix: tuple[FormatPart, ...]
    name_first: bool
    control_token_ids: frozenset[int]
    """Control tokens of a call. The text of an answer must include them."""


def match_format(parts: Sequence[FormatPart], text: str, start: int) -> FormatMatch:
    """Match ``parts`` against ``text`` from ``start``. The amount of white space may differ."""
    name = ""
    for part in parts:
        if isinstance(part, Whitespace):
            part = _WHITESPACE_PATTERN
        if isinstance(part, str):
            if not text.startswith(part, start):
                rest = text[start : start + len(part)]
                return FormatMatch(is_partial=start + len(rest) == len(text) and part.startswith(rest))
            start += len(part)
        elif match := part.match(text, start):
            name, start = (match[0] if part is NAME_PATTERN else name), match.end()
        else:
            return FormatMatch(is_partial=start == len(text))
    return FormatMatch(start, name=name)


def infer_format(template: ChatTemplate) -> ToolCallFormat:
    """Infer the format of calls from two probe calls.

    Raises ``jinja2.TemplateError`` if the template renders no calls or if they cannot be parsed.
    """
    single = _split_at_arguments(template.render_answer(_build_probe_turns(1), [_PROBE_TOOL]))
    try:
        double = _split_at_arguments(template.render_answer(_build_probe_turns(2), [_PROBE_TOOL]))
    except TemplateError:
        # Llama's template accepts one call per turn.
        double = None
    prefix = (*_compile_parts(single[0].lstrip()), "{") if len(single) == 2 else ()
    if NAME_PATTERN not in _compile_parts("".join(single)) or not prefix or not isinstance(prefix[0], str):
        raise FieldOmitted(
            "tools",
            "Its calls have no recognizable name with JSON arguments, so they cannot be distinguished from text. "
            "Choose another base model, or describe the tools in a system message.",
        )
    return ToolCallFormat(
        prefix=prefix,
        separator=(*_compile_parts(double[1]), "{") if double and len(double) == 3 else None,
        suffix=tuple(_compile_parts(single[1].rstrip())),
        name_first=NAME_PATTERN in prefix,
        control_token_ids=frozenset(template.find_control_tokens("".join([*single, *(double or ())]))),
    )


def _build_probe_turns(call_count: int) -> list[dict[str, Any]]:
    calls = [
        {"id": id, "type": "function", "function": {"name": _PROBE_NAME, "arguments": dict(_PROBE_ARGUMENTS)}}
        for id in _PROBE_IDS[:call_count]
    ]
    return [{"role": "user", "content": "a"}, {"role": "assistant", "content": "", "tool_calls": calls}]


def _split_at_arguments(text: str) -> list[str]:
    """Split ``text`` at the probe's arguments written as JSON."""
    pieces, start = list[str](), 0
    for brace in re.compile("{").finditer(text):
        try:
            value, end = decode_at(text, brace.start())
        except InvalidInput:
            continue
        if value == _PROBE_ARGUMENTS:
            pieces.append(text[start : brace.start()])
            start = end
    return [*pieces, text[start:]]


def _compile_parts(text: str) -> list[FormatPart]:
    slots = {_PROBE_NAME: NAME_PATTERN, **dict.fromkeys(_PROBE_IDS, ID_PATTERN)}
    words = [word for word in re.split(rf"(\s+|{'|'.join(slots)})", text) if word]
    return [Whitespace(word) if word.isspace() else slots.get(word, word) for word in words]

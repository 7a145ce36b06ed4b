"""Format of a base model's tool calls, inferred from its chat template.

Two probe calls are rendered. The text before, between, and after their names and arguments is the
format. Arguments are a JSON object, or one element for each parameter (Qwen3.5, GLM-4.5). Ids of
calls may differ in an answer.
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
_PROBE_KEYS, _PROBE_VALUES = ("probe_key", "other_key"), ("probe_value", "other_value")
_PROBE_ARGUMENTS = dict(zip(_PROBE_KEYS[:1], _PROBE_VALUES, strict=False))
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
class ParameterFormat:
    """Text around the name and the value of a parameter: ``<parameter=name>value</parameter>``."""

    opening: str
    middle: str
    closing: str


@dataclass(frozen=True)
class ToolCallFormat:
    """Text around the calls of an answer.

    ``prefix`` opens the first call; if the arguments are JSON, it ends with their opening brace.
    ``separator`` is the text between the arguments of two calls. ``suffix`` follows the last
    arguments. The name of a call precedes its arguments, or follows them (Hermes 2).
    """

    prefix: tuple[FormatPart, ...]
    separator: tuple[FormatPart, ...] | None
    """None if a turn can hold only one call."""
    suffix: tuple[FormatPart, ...]
    name_first: bool
    control_token_ids: frozenset[int]
    """Control tokens of a call. The text of an answer must include them."""
    parameters: ParameterFormat | None = None
    """None: the arguments are a JSON object."""
    uses_channels: bool = False
    """True for GPT-OSS, whose calls are messages to a recipient."""


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
    found = _infer_json_format(template) or _infer_parameter_format(template)
    if found is None:
        raise FieldOmitted(
            "tools",
            "Its calls have no recognizable name and arguments, so they cannot be distinguished from text. "
            "Choose another base model, or describe the tools in a system message.",
        )
    return found


def _infer_json_format(template: ChatTemplate) -> ToolCallFormat | None:
    single = _split_at_arguments(_render_probe(template, _PROBE_ARGUMENTS))
    double = _split_at_arguments(_render_two_calls(template, _PROBE_ARGUMENTS))
    shape = template.reasoning_format
    uses_channels = shape is not None and shape.uses_channels
    # A space belongs to the header of a message in a channel, and to the template elsewhere.
    start = single[0] if uses_channels else single[0].lstrip()
    prefix = (*_compile_parts(start), "{") if len(single) == 2 else ()
    if NAME_PATTERN not in _compile_parts("".join(single)) or not prefix or not isinstance(prefix[0], str):
        return None
    return ToolCallFormat(
        prefix=prefix,
        separator=(*_compile_parts(double[1]), "{") if len(double) == 3 else None,
        suffix=tuple(_compile_parts(single[1].rstrip())),
        name_first=NAME_PATTERN in prefix,
        control_token_ids=frozenset(template.find_control_tokens("".join([*single, *double]))),
        uses_channels=uses_channels,
    )


def _infer_parameter_format(template: ChatTemplate) -> ToolCallFormat | None:
    """Infer a format with one element for each parameter from calls with 0, 1, and 2 of them."""
    empty = _render_probe(template, {})
    full = _render_probe(template, dict(zip(_PROBE_KEYS, _PROBE_VALUES, strict=True)))
    pieces = re.split("|".join((*_PROBE_KEYS, *_PROBE_VALUES)), full)
    if len(pieces) != 5 or pieces[1] != pieces[3]:
        return None
    before, middle, between, _, after = pieces
    for size in range(1, len(between) + 1):
        closing, opening = between[:-size], between[-size:]
        prefix, suffix = before[: len(before) - size], after[len(closing) :]
        if opening[0] == "<" and before.endswith(opening) and after.startswith(closing) and empty == prefix + suffix:
            break
    else:
        return None
    double = _render_two_calls(template, {})
    separator = double[len(prefix) : len(double) - len(suffix)] if double.startswith(prefix) else ""
    prefix_parts = tuple(_compile_parts(prefix.lstrip()))
    if NAME_PATTERN not in prefix_parts or not middle.strip() or not closing.strip():
        return None
    return ToolCallFormat(
        prefix=prefix_parts,
        separator=tuple(_compile_parts(separator)) or None,
        suffix=tuple(_compile_parts(suffix.rstrip())),
        name_first=True,
        control_token_ids=frozenset(template.find_control_tokens(full)),
        parameters=ParameterFormat(opening, middle, closing),
    )


def _render_probe(template: ChatTemplate, arguments: dict[str, str]) -> str:
    return template.render_answer(_build_probe_turns(1, arguments), [_PROBE_TOOL])


def _render_two_calls(template: ChatTemplate, arguments: dict[str, str]) -> str:
    """Return an empty text if the template accepts one call per turn, as Llama's does."""
    try:
        return template.render_answer(_build_probe_turns(2, arguments), [_PROBE_TOOL])
    except TemplateError:
        return ""


def _build_probe_turns(call_count: int, arguments: dict[str, str]) -> list[dict[str, Any]]:
    calls = [
        {"id": id, "type": "function", "function": {"name": _PROBE_NAME, "arguments": dict(arguments)}}
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

"""How a base writes the calls of tools, learnt from its own chat template.

Two calls that only a probe would make are rendered; what stands before, between and behind their names and arguments is
the form. Ids that the template writes into a call may be others in an answer.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import TemplateError

from training.readers.strict_json import InvalidInput, decode_at
from training.tasks.chat_format.template import ChatTemplate, FieldOmitted

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
    """White space as the template writes it; in an answer it may be more, less or none."""


FormatPart = str | re.Pattern[str]
"""Words as they are, a ``Blank``, or one of ``NAME`` and ``ID``."""


@dataclass(frozen=True)
class FormatMatch:
    """What :func:`match` saw: where it ends, or whether more text could still make it fit."""

    end: int | None = None
    is_partial: bool = False
    name: str = ""


@dataclass(frozen=True)
class ToolCallFormat:
    """``head`` opens the first call and ends with its arguments' brace, ``again`` leads from one call's arguments to
    the next one's, ``close`` follows the last. A name stands before its call's arguments, or behind them (Hermes 2)."""

    prefix: tuple[FormatPart, ...]
    separator: tuple[FormatPart, ...] | None
    """None where a turn holds one call."""
    suffix: tuple[FormatPart, ...]
    name_first: bool
    control_token_ids: frozenset[int]
    """Control tokens of a call: they must be seen in an answer's text."""


def match_format(parts: Sequence[FormatPart], text: str, start: int) -> FormatMatch:
    """Whether ``parts`` stand in ``text`` at ``at``. Blanks may be more, fewer or none."""
    name = ""
    for part in parts:
        if isinstance(part, Whitespace):
            part = _WHITESPACE_PATTERN
        if isinstance(part, str):
            if not text.startswith(part, start):
                rest = text[start : start + len(part)]
                return FormatMatch(is_partial=start + len(rest) == len(text) and part.startswith(rest))
            start += len(part)
        elif found := part.match(text, start):
            name, start = (found[0] if part is NAME_PATTERN else name), found.end()
        else:
            return FormatMatch(is_partial=start == len(text))
    return FormatMatch(start, name=name)


def infer_format(template: ChatTemplate) -> ToolCallFormat:
    """Raises ``jinja2.TemplateError`` where the template writes no calls, or none that can be read back."""
    one = _split_at_arguments(template.render_answer(_build_probe_turns(1), [_PROBE_TOOL]))
    try:
        two = _split_at_arguments(template.render_answer(_build_probe_turns(2), [_PROBE_TOOL]))
    except TemplateError:
        # Llama's takes one call a turn.
        two = None
    head = (*_compile_parts(one[0].lstrip()), "{") if len(one) == 2 else ()
    if NAME_PATTERN not in _compile_parts("".join(one)) or not head or not isinstance(head[0], str):
        raise FieldOmitted(
            "tools",
            "The calls that it writes are not words with a name and JSON arguments, so they could not be told from "
            "text; choose another base, or describe the tools in a system message.",
        )
    return ToolCallFormat(
        prefix=head,
        separator=(*_compile_parts(two[1]), "{") if two and len(two) == 3 else None,
        suffix=tuple(_compile_parts(one[1].rstrip())),
        name_first=NAME_PATTERN in head,
        control_token_ids=frozenset(template.find_control_tokens("".join([*one, *(two or ())]))),
    )


def _build_probe_turns(call_count: int) -> list[dict[str, Any]]:
    made = [
        {"id": id, "type": "function", "function": {"name": _PROBE_NAME, "arguments": dict(_PROBE_ARGUMENTS)}}
        for id in _PROBE_IDS[:call_count]
    ]
    return [{"role": "user", "content": "a"}, {"role": "assistant", "content": "", "tool_calls": made}]


def _split_at_arguments(text: str) -> list[str]:
    """At the probe's arguments, where they stand as JSON."""
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

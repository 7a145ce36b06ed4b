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

from training.readers.strict_json import Refused, decode_at
from training.tasks.chat_format.template import ChatTemplate, LeftOut

_NAME = "probe_function"
_IDS = ("probeid01", "probeid02")
_ARGUMENTS = {"probe_key": "probe_value"}
_TOOL = {
    "type": "function",
    "function": {"name": _NAME, "description": "a", "parameters": {"type": "object", "properties": {}}},
}

NAME, ID = re.compile(r"[a-zA-Z0-9_-]{1,64}"), re.compile(r"[\w-]{0,64}")

_BLANK = re.compile(r"\s*")


class Blank(str):
    """White space as the template writes it; in an answer it may be more, less or none."""


Part = str | re.Pattern[str]
"""Words as they are, a ``Blank``, or one of ``NAME`` and ``ID``."""


@dataclass(frozen=True)
class Found:
    """What :func:`match` saw: where it ends, or whether more text could still make it fit."""

    end: int | None = None
    open: bool = False
    name: str = ""


@dataclass(frozen=True)
class CallForm:
    """``head`` opens the first call and ends with its arguments' brace, ``again`` leads from one call's arguments to
    the next one's, ``close`` follows the last. A name stands before its call's arguments, or behind them (Hermes 2)."""

    head: tuple[Part, ...]
    again: tuple[Part, ...] | None
    """None where a turn holds one call."""
    close: tuple[Part, ...]
    name_first: bool
    tokens: frozenset[int]
    """Control tokens of a call: they must be seen in an answer's text."""


def match(parts: Sequence[Part], text: str, at: int) -> Found:
    """Whether ``parts`` stand in ``text`` at ``at``. Blanks may be more, fewer or none."""
    name = ""
    for part in parts:
        if isinstance(part, Blank):
            part = _BLANK
        if isinstance(part, str):
            if not text.startswith(part, at):
                rest = text[at : at + len(part)]
                return Found(open=at + len(rest) == len(text) and part.startswith(rest))
            at += len(part)
        elif found := part.match(text, at):
            name, at = (found[0] if part is NAME else name), found.end()
        else:
            return Found(open=at == len(text))
    return Found(at, name=name)


def learn(template: ChatTemplate) -> CallForm:
    """Raises ``jinja2.TemplateError`` where the template writes no calls, or none that can be read back."""
    one = _split(template.answer(_turns(1), [_TOOL]))
    try:
        two = _split(template.answer(_turns(2), [_TOOL]))
    except TemplateError:
        # Llama's takes one call a turn.
        two = None
    head = (*_compiled(one[0].lstrip()), "{") if len(one) == 2 else ()
    if NAME not in _compiled("".join(one)) or not head or not isinstance(head[0], str):
        raise LeftOut(
            "tools",
            "The calls that it writes are not words with a name and JSON arguments, so they could not be told from "
            "text; choose another base, or describe the tools in a system message.",
        )
    return CallForm(
        head=head,
        again=(*_compiled(two[1]), "{") if two and len(two) == 3 else None,
        close=tuple(_compiled(one[1].rstrip())),
        name_first=NAME in head,
        tokens=frozenset(template.control_tokens("".join([*one, *(two or ())]))),
    )


def _turns(calls: int) -> list[dict[str, Any]]:
    made = [
        {"id": id, "type": "function", "function": {"name": _NAME, "arguments": dict(_ARGUMENTS)}}
        for id in _IDS[:calls]
    ]
    return [{"role": "user", "content": "a"}, {"role": "assistant", "content": "", "tool_calls": made}]


def _split(text: str) -> list[str]:
    """At the probe's arguments, where they stand as JSON."""
    pieces, start = list[str](), 0
    for brace in re.compile("{").finditer(text):
        try:
            value, end = decode_at(text, brace.start())
        except Refused:
            continue
        if value == _ARGUMENTS:
            pieces.append(text[start : brace.start()])
            start = end
    return [*pieces, text[start:]]


def _compiled(text: str) -> list[Part]:
    slots = {_NAME: NAME, **dict.fromkeys(_IDS, ID)}
    words = [word for word in re.split(rf"(\s+|{'|'.join(slots)})", text) if word]
    return [Blank(word) if word.isspace() else slots.get(word, word) for word in words]

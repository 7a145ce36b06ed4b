"""How a base writes the calls of tools, learnt from its own chat template.

Two calls that only a probe would make are rendered; what stands before a name, between name and arguments, between two
calls and behind the last is the form. Ids that the template writes into a call may be others in an answer.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import TemplateError

from training.strict_json import Refused, decode_at
from training.tasks.chat_template import ChatTemplate, LeftOut

_NAME = "probe_function"
_IDS = ("probeid01", "probeid02")
_ARGUMENTS = {"probe_key": "probe_value"}
_TOOL = {
    "type": "function",
    "function": {"name": _NAME, "description": "a", "parameters": {"type": "object", "properties": {}}},
}

NAME, ID, BLANK = re.compile(r"[a-zA-Z0-9_-]{1,64}"), re.compile(r"[\w-]{0,64}"), re.compile(r"\s*")

Part = str | re.Pattern[str]
"""Words as they are, or one of ``NAME``, ``ID`` and ``BLANK``."""


@dataclass(frozen=True)
class Found:
    """What :func:`match` saw: where it ends, or whether more text could still make it fit."""

    end: int | None = None
    open: bool = False
    name: str = ""


@dataclass(frozen=True)
class CallForm:
    """``head`` opens the first call and ends with its arguments' brace, ``again`` leads from one call's arguments to
    the next one's, ``close`` follows the last."""

    head: tuple[Part, ...]
    again: tuple[Part, ...] | None
    """None where a turn holds one call."""
    close: tuple[Part, ...]
    tokens: frozenset[int]
    """Control tokens of a call: they must be seen in an answer's text."""


def match(parts: Sequence[Part], text: str, at: int) -> Found:
    """Whether ``parts`` stand in ``text`` at ``at``. Blanks may be more, fewer or none."""
    name = ""
    for part in parts:
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
    one = _pieces(template.answer(_turns(1), [_TOOL]), 1)
    try:
        two = _pieces(template.answer(_turns(2), [_TOOL]), 2)
    except TemplateError:
        # Llama's takes one call a turn.
        two = None
    head = tuple(_parts(one[0].lstrip(), one[1])) if one else ()
    if one is None or not isinstance(head[0], str):
        raise LeftOut(
            "tools",
            "The calls that it writes are not words, a name and JSON arguments, so they could not be told from text; "
            "choose another base, or describe the tools in a system message.",
        )
    return CallForm(
        head=head,
        again=tuple(_parts(two[2], two[3])) if two else None,
        close=tuple(_compiled(one[2].rstrip())),
        tokens=frozenset(template.control_tokens("".join([*one, *(two or ())]))),
    )


def _turns(calls: int) -> list[dict[str, Any]]:
    made = [
        {"id": id, "type": "function", "function": {"name": _NAME, "arguments": dict(_ARGUMENTS)}}
        for id in _IDS[:calls]
    ]
    return [{"role": "user", "content": "a"}, {"role": "assistant", "content": "", "tool_calls": made}]


def _pieces(text: str, calls: int) -> list[str] | None:
    """What stands around each call's name and arguments: ``2 * calls + 1`` texts; None where these are not found."""
    pieces, at = list[str](), 0
    for _ in range(calls):
        name = text.find(_NAME, at)
        if name < 0:
            return None
        behind = name + len(_NAME)
        found = next(_probes(text, behind), None)
        if found is None:
            return None
        pieces += [text[at:name], text[behind : found[0]]]
        at = found[1]
    return [*pieces, text[at:]]


def _probes(text: str, start: int) -> Iterator[tuple[int, int]]:
    """Where the probe's arguments stand as JSON."""
    for brace in re.compile("{").finditer(text, start):
        try:
            value, end = decode_at(text, brace.start())
        except Refused:
            continue
        if value == _ARGUMENTS:
            yield brace.start(), end


def _parts(before: str, middle: str) -> Iterator[Part]:
    yield from _compiled(before)
    yield NAME
    yield from _compiled(middle)
    yield "{"


def _compiled(text: str) -> Iterator[Part]:
    for word in re.split(rf"(\s+|{'|'.join(_IDS)})", text):
        if word in _IDS:
            yield ID
        elif word.isspace():
            yield BLANK
        elif word:
            yield word

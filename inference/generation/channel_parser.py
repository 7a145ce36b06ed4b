"""Incremental parser of GPT-OSS' output: messages in channels (OpenAI's harmony format).

The prompt ends with ``<|start|>assistant``. The rest of a message's header names its channel, and
for a call its recipient: ``<|channel|>analysis<|message|>reasoning<|end|>``,
``<|channel|>final<|message|>content``,
``to=functions.NAME<|channel|>commentary json<|message|>{}``.
Fine-tuned models and the original differ in the order of recipient and channel.
https://github.com/openai/harmony
"""

from __future__ import annotations

import re
from enum import Enum, auto

from inference.generation.argument_scanners import JsonObjectScanner
from inference.generation.reasoning_parser import count_partial_suffix
from inference.generation.tool_parser import ParsedDelta, ParsedToolCall, ToolPolicy
from training.tasks.chat_format.tool_calls import NAME_PATTERN

_CHANNEL, _MESSAGE, _START = "<|channel|>", "<|message|>", "<|start|>assistant"
_ENDINGS = ("<|end|>", "<|call|>", "<|return|>")
_RECIPIENT = re.compile(rf"to=functions\.({NAME_PATTERN.pattern})")
_HEADER = re.compile(rf"\s*(?:to=|{re.escape(_CHANNEL)})")
_MAX_HEADER_CHARACTERS = 256


class _Part(Enum):
    HEADER = auto()
    BODY = auto()
    BETWEEN = auto()
    """After a message, before the header of the next."""


class ChannelParser:
    """Parser of one choice.

    Output without a header is content. A call of an unknown function or with invalid JSON is
    content, too.
    """

    def __init__(self, policy: ToolPolicy) -> None:
        self._policy = policy
        self._part = _Part.HEADER
        self._text = ""
        """Text that is not emitted yet."""
        self._is_reasoning = False
        self._recipient: str | None = None
        self.has_calls = False
        """True if the output contains a call."""

    def feed(self, text: str) -> ParsedDelta:
        """Add text and return what is final."""
        self._text += text
        return self._parse()

    def finish(self) -> ParsedDelta:
        """Return what was withheld until the end of the output."""
        text, self._text = self._text, ""
        if self._part is _Part.BODY:
            return self._end_message(text)
        return ParsedDelta(text) if self._part is _Part.HEADER and not _HEADER.match(text) else ParsedDelta()

    def _parse(self) -> ParsedDelta:
        delta, progressed = ParsedDelta(), True
        while progressed and not (self._policy.single_call and self.has_calls):
            match self._part:
                case _Part.HEADER:
                    progressed = self._read_header()
                case _Part.BODY:
                    part, progressed = self._read_body()
                    delta += part
                case _Part.BETWEEN:
                    progressed = self._read_between()
        return delta

    def _read_header(self) -> bool:
        header, message, rest = self._text.partition(_MESSAGE)
        if message:
            recipient = _RECIPIENT.search(header)
            self._recipient = recipient[1] if recipient else None
            self._is_reasoning = header.partition(_CHANNEL)[2].lstrip().startswith("analysis")
            self._text, self._part = rest, _Part.BODY
            return True
        text = header.lstrip()
        is_possible = any(start.startswith(text[: len(start)]) for start in ("to=", _CHANNEL))
        if is_possible and len(header) <= _MAX_HEADER_CHARACTERS:
            return False
        self._recipient, self._is_reasoning, self._part = None, False, _Part.BODY
        return True

    def _read_body(self) -> tuple[ParsedDelta, bool]:
        ends = [(at, ending) for ending in _ENDINGS if (at := self._text.find(ending)) >= 0]
        if ends:
            at, ending = min(ends)
            body, self._text = self._text[:at], self._text[at + len(ending) :]
            self._part = _Part.BETWEEN
            return self._end_message(body), True
        if self._recipient is not None:
            return ParsedDelta(), False
        end = len(self._text) - count_partial_suffix(self._text, _ENDINGS)
        body, self._text = self._text[:end], self._text[end:]
        return self._build_delta(body), False

    def _read_between(self) -> bool:
        if self._text.startswith(_START):
            self._text, self._part = self._text.removeprefix(_START), _Part.HEADER
            return True
        return False

    def _end_message(self, body: str) -> ParsedDelta:
        if self._recipient is None:
            return self._build_delta(body)
        name, self._recipient, self._is_reasoning = self._recipient, None, False
        arguments = body.strip()
        is_complete = arguments.startswith("{") and JsonObjectScanner(0).find_end(arguments) == len(arguments)
        if not is_complete or not self._policy.accepts(name, arguments):
            return self._build_delta(body)
        self.has_calls = True
        return ParsedDelta(calls=[ParsedToolCall(name, arguments)])

    def _build_delta(self, text: str) -> ParsedDelta:
        return ParsedDelta(reasoning=text) if self._is_reasoning else ParsedDelta(text)

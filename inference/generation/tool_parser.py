"""Incremental parser that separates tool calls from text in a model's output."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from inference.generation.argument_scanners import (
    ArgumentScanner,
    JsonObjectScanner,
    ParameterScanner,
    decode_parameters,
)
from training.readers.strict_json import InvalidInput, decode
from training.tasks.chat_format.tool_calls import FormatMatch, ToolCallFormat, match_format


@dataclass(frozen=True)
class ParsedToolCall:
    name: str
    arguments: str
    """JSON object. If the model writes JSON, exactly as it generated it."""


@dataclass(frozen=True)
class ParsedDelta:
    """New text that is neither reasoning nor part of a call, new reasoning, and new complete
    calls."""

    text: str = ""
    calls: list[ParsedToolCall] = field(default_factory=list)
    reasoning: str = ""

    def __add__(self, other: ParsedDelta) -> ParsedDelta:
        return ParsedDelta(self.text + other.text, self.calls + other.calls, self.reasoning + other.reasoning)


class OutputParser(Protocol):
    """Incremental parser of one choice."""

    @property
    def has_calls(self) -> bool:
        """True if the output contains a call."""

    def feed(self, text: str) -> ParsedDelta:
        """Add text and return what is final."""

    def finish(self) -> ParsedDelta:
        """Return what was withheld until the end of the output."""


@dataclass(frozen=True)
class ToolPolicy:
    """Calls that a request allows."""

    schemas: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Function name -> JSON Schema of its arguments."""
    single_call: bool = False
    """The output ends with its first call."""
    constrained: bool = False
    """Decoding was constrained to calls, so arguments are valid JSON that matches their schema."""

    def accepts(self, name: str, arguments: str) -> bool:
        """Return True if these are the valid arguments of an allowed function."""
        return name in self.schemas and (self.constrained or _is_json(arguments))


@dataclass
class _PartialCall:
    """Call whose prefix has been parsed. Positions are characters of the whole text."""

    name: str
    arguments_start: int
    """Start of the arguments."""
    content_start: int
    """Start of the text that becomes content if this is not a call."""
    search_start: int
    """Start of the search for the next call if this is not a call."""
    scanner: ArgumentScanner
    arguments_end: int | None = None


class ToolCallParser:
    """Parser of one choice.

    It withholds text that may begin a call and emits all other text immediately.
    Text that turns out not to be a call (invalid JSON, an unknown function, truncated output) is
    emitted unchanged. Whitespace around a call belongs to the template and is dropped.
    """

    def __init__(self, call_format: ToolCallFormat | None, policy: ToolPolicy) -> None:
        """``call_format`` None: there are no tools, and all output is text."""
        self._call_format = call_format
        self._policy = policy
        self._text = ""
        # text[:position] was emitted or belongs to a call. No call begins before `search_start`.
        self._position = self._search_start = 0
        self._partial_call: _PartialCall | None = None
        # End of the last call's arguments, as long as another call may follow there.
        self._separator_start: int | None = None
        self.has_calls = False
        """True if the output contains a call."""

    def feed(self, text: str) -> ParsedDelta:
        """Add text and return what is final."""
        if self._call_format is None:
            return ParsedDelta(text)
        self._text += text
        return self._parse(self._call_format, final=False)

    def finish(self) -> ParsedDelta:
        """Return what was withheld until the end of the output."""
        if self._call_format is None:
            return ParsedDelta()
        delta = self._parse(self._call_format, final=True)
        rest = self._text[self._position :]
        drop_rest = (self._policy.single_call or not rest.strip()) and self.has_calls
        return delta if drop_rest else ParsedDelta(delta.text + rest, delta.calls)

    def _parse(self, call_format: ToolCallFormat, final: bool) -> ParsedDelta:
        text, calls, progressed = "", list[ParsedToolCall](), True
        while progressed and not (self._policy.single_call and self.has_calls):
            if self._partial_call is None:
                new_text, progressed = self._find_call(call_format, final)
                text += new_text
            else:
                call, progressed = self._continue_call(call_format, self._partial_call, final)
                calls += [call] if call else []
        return ParsedDelta(text, calls)

    def _find_call(self, call_format: ToolCallFormat, final: bool) -> tuple[str, bool]:
        """Return the text before the next possible call, and whether a call begins there."""
        if self._separator_start is not None and call_format.separator:
            separator = match_format(call_format.separator, self._text, self._separator_start)
            if separator.is_partial and not final:
                return "", False
            self._separator_start = None
            if separator.end is not None:
                self._begin_call(call_format, separator, separator.end, self._position, self._position)
                return "", True
        call_start, prefix = self._find_prefix(call_format, final)
        text_end = self._position + len(self._text[self._position : call_start].rstrip())
        text, self._position, self._search_start = self._text[self._position : text_end], text_end, call_start
        if prefix.end is not None:
            self._begin_call(call_format, prefix, prefix.end, text_end, call_start + 1)
        return text, prefix.end is not None

    def _find_prefix(self, call_format: ToolCallFormat, final: bool) -> tuple[int, FormatMatch]:
        first_part, start = call_format.prefix[0], self._search_start
        assert isinstance(first_part, str)
        while (start := self._text.find(first_part[0], start)) >= 0:
            prefix = match_format(call_format.prefix, self._text, start)
            if prefix.end is not None or (prefix.is_partial and not final):
                return start, prefix
            start += 1
        return len(self._text), FormatMatch()

    def _begin_call(
        self, call_format: ToolCallFormat, match: FormatMatch, end: int, content_start: int, search_start: int
    ) -> None:
        if call_format.parameters is None:
            # The prefix ends with the opening brace of the arguments.
            scanner: ArgumentScanner = JsonObjectScanner(end - 1)
            end -= 1
        else:
            scanner = ParameterScanner(end, call_format.parameters)
        self._partial_call = _PartialCall(match.name, end, content_start, search_start, scanner)

    def _continue_call(
        self, call_format: ToolCallFormat, partial_call: _PartialCall, final: bool
    ) -> tuple[ParsedToolCall | None, bool]:
        """Return the call if it is complete, and whether parsing progressed."""
        if partial_call.arguments_end is None:
            partial_call.arguments_end = partial_call.scanner.find_end(self._text)
        if partial_call.arguments_end is None:
            return None, final and self._discard_call(partial_call)
        separator = (
            match_format(call_format.separator, self._text, partial_call.arguments_end)
            if call_format.separator
            else FormatMatch()
        )
        suffix = match_format(call_format.suffix, self._text, partial_call.arguments_end)
        is_partial = separator.is_partial or suffix.is_partial
        if separator.end is None and suffix.end is None and is_partial and not final:
            return None, False
        terminator = separator if separator.end is not None else suffix
        call = self._build_call(
            call_format,
            partial_call.name if call_format.name_first else terminator.name,
            partial_call.arguments_start,
            partial_call.arguments_end,
        )
        if call is None or terminator.end is None:
            return None, self._discard_call(partial_call)
        if terminator is separator:
            end = partial_call.arguments_end
            self._begin_call(call_format, separator, terminator.end, end, end)
        else:
            self._partial_call, self._position, self._search_start = None, terminator.end, terminator.end
            self._separator_start = partial_call.arguments_end if separator.is_partial else None
        self.has_calls = True
        return call, True

    def _discard_call(self, partial_call: _PartialCall) -> bool:
        self._partial_call, self._position, self._search_start = (
            None,
            partial_call.content_start,
            partial_call.search_start,
        )
        return True

    def _build_call(self, call_format: ToolCallFormat, name: str, start: int, end: int) -> ParsedToolCall | None:
        arguments: str | None = self._text[start:end]
        if call_format.parameters is not None:
            schema = self._policy.schemas.get(name, {})
            arguments = decode_parameters(self._text[start:end], call_format.parameters, schema)
        return (
            ParsedToolCall(name, arguments) if arguments is not None and self._policy.accepts(name, arguments) else None
        )


def _is_json(text: str) -> bool:
    try:
        decode(text)
    except InvalidInput:
        return False
    return True

"""Incremental parser that separates tool calls from text in a model's output."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from training.readers.strict_json import InvalidInput, decode
from training.tasks.chat_format.tool_calls import FormatMatch, ToolCallFormat, match_format


@dataclass(frozen=True)
class ParsedToolCall:
    name: str
    arguments: str
    """JSON object, exactly as the model generated it."""


@dataclass(frozen=True)
class ParsedDelta:
    """New text that is not part of a call, and new complete calls."""

    text: str = ""
    calls: list[ParsedToolCall] = field(default_factory=list)


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
    scanner: _JsonObjectScanner
    arguments_end: int | None = None


class ToolCallParser:
    """Parser of one choice.

    It withholds text that may begin a call and emits all other text immediately.
    Text that turns out not to be a call (invalid JSON, an unknown function, truncated output) is
    emitted unchanged. Whitespace around a call belongs to the template and is dropped.
    """

    def __init__(
        self,
        call_format: ToolCallFormat | None,
        tool_names: Collection[str] = (),
        single_call: bool = False,
        constrained: bool = False,
    ) -> None:
        """``call_format`` None: there are no tools, and all output is text.

        ``single_call``: the output ends with its first call.
        ``constrained``: decoding was constrained to calls, so arguments are valid JSON that matches
        their schema.
        """
        self._call_format = call_format
        self._tool_names = tool_names
        self._single_call = single_call
        self._constrained = constrained
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
        drop_rest = (self._single_call or not rest.strip()) and self.has_calls
        return delta if drop_rest else ParsedDelta(delta.text + rest, delta.calls)

    def _parse(self, call_format: ToolCallFormat, final: bool) -> ParsedDelta:
        text, calls, progressed = "", list[ParsedToolCall](), True
        while progressed and not (self._single_call and self.has_calls):
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
                self._begin_call(separator, separator.end, self._position, self._position)
                return "", True
        call_start, prefix = self._find_prefix(call_format, final)
        text_end = self._position + len(self._text[self._position : call_start].rstrip())
        text, self._position, self._search_start = self._text[self._position : text_end], text_end, call_start
        if prefix.end is not None:
            self._begin_call(prefix, prefix.end, text_end, call_start + 1)
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

    def _begin_call(self, match: FormatMatch, end: int, content_start: int, search_start: int) -> None:
        self._partial_call = _PartialCall(match.name, end - 1, content_start, search_start, _JsonObjectScanner(end - 1))

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
            partial_call.name if call_format.name_first else terminator.name,
            partial_call.arguments_start,
            partial_call.arguments_end,
        )
        if call is None or terminator.end is None:
            return None, self._discard_call(partial_call)
        if terminator is separator:
            self._begin_call(separator, terminator.end, partial_call.arguments_end, partial_call.arguments_end)
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

    def _build_call(self, name: str, start: int, end: int) -> ParsedToolCall | None:
        arguments = self._text[start:end]
        return (
            ParsedToolCall(name, arguments)
            if name in self._tool_names and (self._constrained or _is_json(arguments))
            else None
        )


def _is_json(text: str) -> bool:
    try:
        decode(text)
    except InvalidInput:
        return False
    return True


class _JsonObjectScanner:
    """Incremental scanner for the end of a JSON object. It reads each character once."""

    def __init__(self, start: int) -> None:
        self._position = start
        self._depth = 0
        self._in_string = self._escaped = False

    def find_end(self, text: str) -> int | None:
        """Return the end of the object in the text so far, or None."""
        for index in range(self._position, len(text)):
            self._consume(text[index])
            if not self._depth:
                return index + 1
        self._position = len(text)
        return None

    def _consume(self, char: str) -> None:
        if self._escaped:
            self._escaped = False
        elif self._in_string:
            self._escaped, self._in_string = char == "\\", char != '"'
        elif char == '"':
            self._in_string = True
        elif char in "{}":
            self._depth += 1 if char == "{" else -1

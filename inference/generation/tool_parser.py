"""The calls of tools in what a model writes, told from its words as they come."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from training.readers.strict_json import InvalidInput, decode
from training.tasks.chat_format.tool_calls import FormatMatch, ToolCallFormat, match_format


@dataclass(frozen=True)
class ParsedToolCall:
    name: str
    arguments: str
    """JSON of an object, as the model wrote it."""


@dataclass(frozen=True)
class ParsedDelta:
    """Words that are certainly no call, and calls that are whole."""

    text: str = ""
    calls: list[ParsedToolCall] = field(default_factory=list)


@dataclass
class _PartialCall:
    """A call whose head has been read."""

    name: str
    arguments_start: int
    """Where they begin."""
    content_start: int
    """Where the text begins that is content should this be no call."""
    search_start: int
    """Where another call is looked for then."""
    scanner: _JsonObjectScanner
    arguments_end: int | None = None


class ToolCallParser:
    """Reads one answer. Text that may be the beginning of a call is held back, all else is given out at once.

    What turns out to be no call (broken JSON, a function that nobody offered, an answer cut short) is text, as it was
    written. Blanks beside a call are the template's and are dropped.
    """

    def __init__(
        self,
        call_format: ToolCallFormat | None,
        tool_names: Collection[str] = (),
        single_call: bool = False,
        constrained: bool = False,
    ) -> None:
        """``form`` None: there are no tools, all is text. ``single``: the answer ends with its first call.

        ``held``: decoding was constrained to calls, so that arguments are JSON that fits their schema.
        """
        self._call_format = call_format
        self._tool_names = tool_names
        self._single_call = single_call
        self._constrained = constrained
        self._text = ""
        # text[:at] has been given out or was a call's; no call begins before `search`.
        self._position = self._search_start = 0
        self._partial_call: _PartialCall | None = None
        # Right behind the arguments of the last call, while another may follow there.
        self._separator_start: int | None = None
        self.has_calls = False
        """Whether a call was made."""

    def feed(self, text: str) -> ParsedDelta:
        """Add text."""
        if self._call_format is None:
            return ParsedDelta(text)
        self._text += text
        return self._parse(self._call_format, final=False)

    def finish(self) -> ParsedDelta:
        """What was held back, now that nothing follows."""
        if self._call_format is None:
            return ParsedDelta()
        said = self._parse(self._call_format, final=True)
        rest = self._text[self._position :]
        over = (self._single_call or not rest.strip()) and self.has_calls
        return said if over else ParsedDelta(said.text + rest, said.calls)

    def _parse(self, call_format: ToolCallFormat, final: bool) -> ParsedDelta:
        words, calls, moved = "", list[ParsedToolCall](), True
        while moved and not (self._single_call and self.has_calls):
            if self._partial_call is None:
                text, moved = self._find_call(call_format, final)
                words += text
            else:
                call, moved = self._continue_call(call_format, self._partial_call, final)
                calls += [call] if call else []
        return ParsedDelta(words, calls)

    def _find_call(self, call_format: ToolCallFormat, final: bool) -> tuple[str, bool]:
        """Words up to where a call may begin, and whether one has."""
        if self._separator_start is not None and call_format.separator:
            again = match_format(call_format.separator, self._text, self._separator_start)
            if again.is_partial and not final:
                return "", False
            self._separator_start = None
            if again.end is not None:
                self._begin_call(again, again.end, self._position, self._position)
                return "", True
        place, head = self._find_head(call_format, final)
        until = self._position + len(self._text[self._position : place].rstrip())
        words, self._position, self._search_start = self._text[self._position : until], until, place
        if head.end is not None:
            self._begin_call(head, head.end, until, place + 1)
        return words, head.end is not None

    def _find_head(self, form: ToolCallFormat, final: bool) -> tuple[int, FormatMatch]:
        first, at = form.prefix[0], self._search_start
        assert isinstance(first, str)
        while (at := self._text.find(first[0], at)) >= 0:
            head = match_format(form.prefix, self._text, at)
            if head.end is not None or (head.is_partial and not final):
                return at, head
            at += 1
        return len(self._text), FormatMatch()

    def _begin_call(self, head: FormatMatch, end: int, content_start: int, search_start: int) -> None:
        self._partial_call = _PartialCall(head.name, end - 1, content_start, search_start, _JsonObjectScanner(end - 1))

    def _continue_call(
        self, call_format: ToolCallFormat, partial_call: _PartialCall, final: bool
    ) -> tuple[ParsedToolCall | None, bool]:
        """The call where it is whole, and whether there is more to read."""
        if partial_call.arguments_end is None:
            partial_call.arguments_end = partial_call.scanner.find_end(self._text)
        if partial_call.arguments_end is None:
            return None, final and self._discard_call(partial_call)
        again = (
            match_format(call_format.separator, self._text, partial_call.arguments_end)
            if call_format.separator
            else FormatMatch()
        )
        close = match_format(call_format.suffix, self._text, partial_call.arguments_end)
        if again.end is None and close.end is None and (again.is_partial or close.is_partial) and not final:
            return None, False
        ended = again if again.end is not None else close
        call = self._build_call(
            partial_call.name if call_format.name_first else ended.name,
            partial_call.arguments_start,
            partial_call.arguments_end,
        )
        if call is None or ended.end is None:
            return None, self._discard_call(partial_call)
        if ended is again:
            self._begin_call(again, ended.end, partial_call.arguments_end, partial_call.arguments_end)
        else:
            self._partial_call, self._position, self._search_start = None, ended.end, ended.end
            self._separator_start = partial_call.arguments_end if again.is_partial else None
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
    """Finds where a JSON object ends, reading each character once however the text arrives."""

    def __init__(self, start: int) -> None:
        self._position = start
        self._depth = 0
        self._in_string = self._escaped = False

    def find_end(self, text: str) -> int | None:
        for at in range(self._position, len(text)):
            self._consume(text[at])
            if not self._depth:
                return at + 1
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

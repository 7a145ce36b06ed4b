"""The calls of tools in what a model writes, told from its words as they come."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from training.readers.strict_json import Refused, decode
from training.tasks.chat_format.tool_calls import CallForm, Found, match


@dataclass(frozen=True)
class Call:
    name: str
    arguments: str
    """JSON of an object, as the model wrote it."""


@dataclass(frozen=True)
class Said:
    """Words that are certainly no call, and calls that are whole."""

    text: str = ""
    calls: list[Call] = field(default_factory=list)


@dataclass
class _Begun:
    """A call whose head has been read."""

    name: str
    arguments: int
    """Where they begin."""
    start: int
    """Where the text begins that is content should this be no call."""
    retry: int
    """Where another call is looked for then."""
    scan: _Scan
    end: int | None = None


class CallReader:
    """Reads one answer. Text that may be the beginning of a call is held back, all else is given out at once.

    What turns out to be no call (broken JSON, a function that nobody offered, an answer cut short) is text, as it was
    written. Blanks beside a call are the template's and are dropped.
    """

    def __init__(
        self, form: CallForm | None, offered: Collection[str] = (), single: bool = False, held: bool = False
    ) -> None:
        """``form`` None: there are no tools, all is text. ``single``: the answer ends with its first call.

        ``held``: decoding was constrained to calls, so that arguments are JSON that fits their schema.
        """
        self._form = form
        self._offered = offered
        self._single = single
        self._held = held
        self._text = ""
        # text[:at] has been given out or was a call's; no call begins before `search`.
        self._at = self._search = 0
        self._begun: _Begun | None = None
        # Right behind the arguments of the last call, while another may follow there.
        self._behind: int | None = None
        self.called = False
        """Whether a call was made."""

    def feed(self, text: str) -> Said:
        """Add text."""
        if self._form is None:
            return Said(text)
        self._text += text
        return self._read(self._form, final=False)

    def finish(self) -> Said:
        """What was held back, now that nothing follows."""
        if self._form is None:
            return Said()
        said = self._read(self._form, final=True)
        rest = self._text[self._at :]
        over = (self._single or not rest.strip()) and self.called
        return said if over else Said(said.text + rest, said.calls)

    def _read(self, form: CallForm, final: bool) -> Said:
        words, calls, moved = "", list[Call](), True
        while moved and not (self._single and self.called):
            if self._begun is None:
                text, moved = self._look(form, final)
                words += text
            else:
                call, moved = self._go_on(form, self._begun, final)
                calls += [call] if call else []
        return Said(words, calls)

    def _look(self, form: CallForm, final: bool) -> tuple[str, bool]:
        """Words up to where a call may begin, and whether one has."""
        if self._behind is not None and form.again:
            again = match(form.again, self._text, self._behind)
            if again.open and not final:
                return "", False
            self._behind = None
            if again.end is not None:
                self._begin(again, again.end, self._at, self._at)
                return "", True
        place, head = self._opening(form, final)
        until = self._at + len(self._text[self._at : place].rstrip())
        words, self._at, self._search = self._text[self._at : until], until, place
        if head.end is not None:
            self._begin(head, head.end, until, place + 1)
        return words, head.end is not None

    def _opening(self, form: CallForm, final: bool) -> tuple[int, Found]:
        first, at = form.head[0], self._search
        assert isinstance(first, str)
        while (at := self._text.find(first[0], at)) >= 0:
            head = match(form.head, self._text, at)
            if head.end is not None or (head.open and not final):
                return at, head
            at += 1
        return len(self._text), Found()

    def _begin(self, head: Found, end: int, start: int, retry: int) -> None:
        self._begun = _Begun(head.name, end - 1, start, retry, _Scan(end - 1))

    def _go_on(self, form: CallForm, begun: _Begun, final: bool) -> tuple[Call | None, bool]:
        """The call where it is whole, and whether there is more to read."""
        if begun.end is None:
            begun.end = begun.scan.end_in(self._text)
        if begun.end is None:
            return None, final and self._give_up(begun)
        again = match(form.again, self._text, begun.end) if form.again else Found()
        close = match(form.close, self._text, begun.end)
        if again.end is None and close.end is None and (again.open or close.open) and not final:
            return None, False
        ended = again if again.end is not None else close
        call = self._call(begun.name if form.name_first else ended.name, begun.arguments, begun.end)
        if call is None or ended.end is None:
            return None, self._give_up(begun)
        if ended is again:
            self._begin(again, ended.end, begun.end, begun.end)
        else:
            self._begun, self._at, self._search = None, ended.end, ended.end
            self._behind = begun.end if again.open else None
        self.called = True
        return call, True

    def _give_up(self, begun: _Begun) -> bool:
        self._begun, self._at, self._search = None, begun.start, begun.retry
        return True

    def _call(self, name: str, start: int, end: int) -> Call | None:
        arguments = self._text[start:end]
        return Call(name, arguments) if name in self._offered and (self._held or _is_json(arguments)) else None


def _is_json(text: str) -> bool:
    try:
        decode(text)
    except Refused:
        return False
    return True


class _Scan:
    """Finds where a JSON object ends, reading each character once however the text arrives."""

    def __init__(self, start: int) -> None:
        self._at = start
        self._depth = 0
        self._quoted = self._escaped = False

    def end_in(self, text: str) -> int | None:
        for at in range(self._at, len(text)):
            self._take(text[at])
            if not self._depth:
                return at + 1
        self._at = len(text)
        return None

    def _take(self, char: str) -> None:
        if self._escaped:
            self._escaped = False
        elif self._quoted:
            self._escaped, self._quoted = char == "\\", char != '"'
        elif char == '"':
            self._quoted = True
        elif char in "{}":
            self._depth += 1 if char == "{" else -1

"""Server-sent events, as lines of an answer."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class ServerSentEvent:
    kind: str
    """``message`` where the server names none."""
    data: str
    id: str
    """Of the last event that had one; empty before."""


@dataclass
class SSEParser:
    """Fed line by line; an empty line completes an event. https://html.spec.whatwg.org/multipage/server-sent-events.html"""

    _kind: str = ""
    _id: str = ""
    _data: list[str] = field(default_factory=list)

    def feed(self, line: str) -> ServerSentEvent | None:
        """The event that ``line``, without its end, completes."""
        if not line:
            return self._complete()
        # A comment, which keeps the connection alive, has an empty name.
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
        elif name == "event":
            self._kind = value
        elif name == "id":
            self._id = value
        return None

    def _complete(self) -> ServerSentEvent | None:
        kind, data, self._kind, self._data = self._kind, self._data, "", []
        return ServerSentEvent(kind or "message", "\n".join(data), self._id) if data else None

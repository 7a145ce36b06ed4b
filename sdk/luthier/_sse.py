"""Parser for server-sent events."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class ServerSentEvent:
    """One server-sent event."""

    kind: str
    """Event type; ``message`` if the server sends none."""
    data: str
    id: str
    """Id of this event or the last one that had an id; empty before the first."""


@dataclass
class SSEParser:
    """Incremental parser that reads line by line. An empty line completes an event.

    https://html.spec.whatwg.org/multipage/server-sent-events.html
    """

    _kind: str = ""
    _id: str = ""
    _data: list[str] = field(default_factory=list)

    def feed(self, line: str) -> ServerSentEvent | None:
        """Return the event that ``line`` completes, or None. ``line`` has no line end."""
        if not line:
            return self._complete()
        # A comment has an empty field name. The server sends comments to keep the connection alive.
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

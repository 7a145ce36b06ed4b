"""uvicorn's protocol with a deadline for a request's head; uvicorn itself waits for ever."""

from __future__ import annotations

import asyncio
from asyncio import TimerHandle
from typing import ClassVar

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


class Impatient(HttpToolsProtocol):
    """Closes a connection on which no request's line and headers are whole within ``head_seconds``.

    Counted from the connection's beginning, or from the first byte after an answer. A body's deadline is
    :class:`api.middleware.Limited`'s, silence between two requests uvicorn's ``timeout_keep_alive``.
    """

    head_seconds: ClassVar[float] = 10.0
    _waiting: TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        # What arrived ended uvicorn's own wait between two requests, but may be no whole head.
        if self._waiting is None and (self.cycle is None or self.cycle.response_complete):
            self._wait()

    def on_headers_complete(self) -> None:
        self._stop_waiting()
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    def _wait(self) -> None:
        self._waiting = self.loop.call_later(self.head_seconds, self.transport.close)

    def _stop_waiting(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None

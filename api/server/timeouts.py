"""uvicorn's protocol with deadlines for clients that stop; uvicorn itself waits for ever."""

from __future__ import annotations

import asyncio
import fcntl
import sys
import termios
from asyncio import TimerHandle
from typing import ClassVar

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


class Impatient(HttpToolsProtocol):
    """Closes a connection on which no request's line and headers are whole within ``head_seconds``, and one on which
    the client has taken nothing of an answer for ``write_seconds``.

    A head's time counts from the connection's beginning, or from the first byte after an answer. A body's deadline is
    :class:`api.middleware.body.BodyLimitMiddleware`'s, silence between two requests uvicorn's ``timeout_keep_alive``.
    """

    head_seconds: ClassVar[float] = 10.0
    write_seconds: ClassVar[float] = 30.0
    _waiting: TimerHandle | None = None
    _stalling: TimerHandle | None = None

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

    def pause_writing(self) -> None:
        super().pause_writing()
        self._look_again()

    def resume_writing(self) -> None:
        self._stop_looking()
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        self._stop_looking()
        super().connection_lost(exc)

    def _wait(self) -> None:
        self._waiting = self.loop.call_later(self.head_seconds, self.transport.close)

    def _stop_waiting(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None

    def _look_again(self) -> None:
        self._stalling = self.loop.call_later(self.write_seconds, self._look, self._untaken())

    def _untaken(self) -> int:
        """Bytes of the answer here and in the kernel, which asks for more only when a third of its own have gone."""
        held = fcntl.ioctl(self.transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, bytes(4))
        return self.transport.get_write_buffer_size() + int.from_bytes(held, sys.byteorder)

    def _look(self, before: int) -> None:
        # Nothing is added while writing is paused, so what is less has been taken.
        if self._untaken() < before:
            self._look_again()
        else:
            # Closing would wait until all of it has been taken.
            self.transport.abort()

    def _stop_looking(self) -> None:
        if self._stalling is not None:
            self._stalling.cancel()
            self._stalling = None

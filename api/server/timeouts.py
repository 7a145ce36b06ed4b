"""uvicorn's protocol with deadlines for clients that stop; uvicorn itself waits for ever."""

from __future__ import annotations

import asyncio
import fcntl
import sys
import termios
from asyncio import TimerHandle
from typing import ClassVar

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


class TimeoutProtocol(HttpToolsProtocol):
    """Closes a connection on which no request's line and headers are whole within ``head_seconds``, and one on which
    the client has taken nothing of an answer for ``write_seconds``.

    A head's time counts from the connection's beginning, or from the first byte after an answer. A body's deadline is
    :class:`api.middleware.body.BodyLimitMiddleware`'s, silence between two requests uvicorn's ``timeout_keep_alive``.
    """

    header_timeout_seconds: ClassVar[float] = 10.0
    write_timeout_seconds: ClassVar[float] = 30.0
    _header_timer: TimerHandle | None = None
    _write_timer: TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._start_header_timer()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        # What arrived ended uvicorn's own wait between two requests, but may be no whole head.
        if self._header_timer is None and (self.cycle is None or self.cycle.response_complete):
            self._start_header_timer()

    def on_headers_complete(self) -> None:
        self._cancel_header_timer()
        super().on_headers_complete()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._start_write_timer()

    def resume_writing(self) -> None:
        self._cancel_write_timer()
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._cancel_header_timer()
        self._cancel_write_timer()
        super().connection_lost(exc)

    def _start_header_timer(self) -> None:
        self._header_timer = self.loop.call_later(self.header_timeout_seconds, self.transport.close)

    def _cancel_header_timer(self) -> None:
        if self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None

    def _start_write_timer(self) -> None:
        self._write_timer = self.loop.call_later(
            self.write_timeout_seconds, self._check_write_progress, self._count_unsent_bytes()
        )

    def _count_unsent_bytes(self) -> int:
        """Bytes of the answer here and in the kernel, which asks for more only when a third of its own have gone."""
        held = fcntl.ioctl(self.transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, bytes(4))
        return self.transport.get_write_buffer_size() + int.from_bytes(held, sys.byteorder)

    def _check_write_progress(self, unsent_before: int) -> None:
        # Nothing is added while writing is paused, so what is less has been taken.
        if self._count_unsent_bytes() < unsent_before:
            self._start_write_timer()
        else:
            # Closing would wait until all of it has been taken.
            self.transport.abort()

    def _cancel_write_timer(self) -> None:
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None

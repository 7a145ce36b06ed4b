"""HTTP protocol that closes stalled connections. uvicorn has no header-read or write timeout."""

from __future__ import annotations

import asyncio
import fcntl
import sys
import termios
from asyncio import TimerHandle
from typing import ClassVar

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


class TimeoutProtocol(HttpToolsProtocol):
    """HTTP protocol with a header-read timeout and a write timeout.

    It closes a connection if the request line and headers are incomplete after
    ``header_timeout_seconds``, or if the client reads no byte of a response for
    ``write_timeout_seconds``. The header timeout starts with the connection, or with the first byte
    after a response. :class:`api.middleware.body.BodyLimitMiddleware` limits the time for a body.
    uvicorn's ``timeout_keep_alive`` limits the silence between two requests.
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
        # These bytes ended uvicorn's keep-alive timeout, but the head may still be incomplete.
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
        """Return the unsent bytes of the response, in this process and in the kernel.

        Both count, because the kernel requests more only after it has sent a third of its own
        bytes.
        """
        kernel_bytes = fcntl.ioctl(self.transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, bytes(4))
        return self.transport.get_write_buffer_size() + int.from_bytes(kernel_bytes, sys.byteorder)

    def _check_write_progress(self, unsent_before: int) -> None:
        # No bytes are added while writing is paused, so a lower count means the client read some.
        if self._count_unsent_bytes() < unsent_before:
            self._start_write_timer()
        else:
            # ``close`` would wait until the client has read the rest.
            self.transport.abort()

    def _cancel_write_timer(self) -> None:
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None

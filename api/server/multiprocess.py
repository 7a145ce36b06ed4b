"""Several API processes on one port, each with a listener of its own.

Of one listener that they share, whichever process wakes first takes every connection that waits: of a thousand
keep-alive clients one process may serve nearly all while another idles. With ``SO_REUSEPORT`` the kernel deals new
connections out evenly.
"""

from __future__ import annotations

import socket

from uvicorn import Config
from uvicorn.supervisors import Multiprocess


class ReusePortSupervisor(Multiprocess):
    """uvicorn's supervisor, whose every process is handed a new listener; it closes with its process."""

    def __init__(self, config: Config) -> None:
        # Fails, in uvicorn's words, where somebody else listens; the next line alone would share the port with him.
        config.bind_socket().close()
        # Never listens: it keeps the port from others while processes come and go.
        self._reserved_socket = _bind_socket(config)
        super().__init__(config, sockets=[])

    @property
    def sockets(self) -> list[socket.socket]:
        """For the next process. uvicorn asks once for each that it starts."""
        return [_bind_socket(self.config)]

    @sockets.setter
    def sockets(self, given: list[socket.socket]) -> None:
        assert not given


def _bind_socket(config: Config) -> socket.socket:
    bound = socket.socket(socket.AF_INET6 if ":" in config.host else socket.AF_INET)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    bound.bind((config.host, config.port))
    bound.set_inheritable(True)
    return bound

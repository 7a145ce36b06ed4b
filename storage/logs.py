"""Logging configuration of all processes: time, logger name, message."""

from __future__ import annotations

import logging

_LIBRARY_LEVELS = {
    "arq": logging.WARNING,
    "httpx": logging.WARNING,
    "alembic": logging.WARNING,
    "bitsandbytes": logging.ERROR,
}
"""Libraries that log every request or poll, or on import that an optional kernel is missing."""


def configure() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    for name, level in _LIBRARY_LEVELS.items():
        logging.getLogger(name).setLevel(level)

"""Logging configuration of all processes: time, logger name, message."""

from __future__ import annotations

import logging

_QUIET_LOGGERS = ("arq", "httpx", "alembic")
"""Libraries that log every request or poll."""


def configure() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    for name in _QUIET_LOGGERS:
        logging.getLogger(name).setLevel(logging.WARNING)

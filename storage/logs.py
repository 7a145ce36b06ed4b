"""One way of logging for every process: a time, a room, a line for each transition."""

from __future__ import annotations

import logging

_QUIET_LOGGERS = ("arq", "httpx", "alembic")
"""Libraries that tell every request or poll."""


def configure() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    for name in _QUIET_LOGGERS:
        logging.getLogger(name).setLevel(logging.WARNING)

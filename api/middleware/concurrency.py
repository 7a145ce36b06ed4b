"""Admission control: a limit on the concurrent requests of one process."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from starlette.types import ASGIApp, Receive, Scope, Send

from api.errors import Overloaded
from api.exception_handlers import to_response


class ConcurrencyLimitMiddleware:
    """Limits concurrent requests.

    Excess requests get an immediate 503, so latency and memory stay bounded under overload.
    """

    def __init__(
        self, app: ASGIApp, public_paths: frozenset[str], limit: int, per_path_limits: Mapping[str, int]
    ) -> None:
        """``public_paths``: paths without a limit.

        ``per_path_limits``: pattern of a full path -> its own limit of concurrent requests, which
        do not count toward ``limit``.
        """
        self.app = app
        self.public_paths = public_paths
        self.per_path_slots = [
            (re.compile(pattern), _Slots(path_limit)) for pattern, path_limit in per_path_limits.items()
        ]
        self.default_slots = _Slots(limit)
        # Built once and not logged: work for rejected requests would slow down the accepted ones.
        self.overloaded_response = to_response(Overloaded())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in self.public_paths:
            await self.app(scope, receive, send)
            return
        slots = next(
            (slots for pattern, slots in self.per_path_slots if pattern.fullmatch(scope["path"])), self.default_slots
        )
        if slots.used >= slots.limit:
            await self.overloaded_response(scope, receive, send)
            return
        slots.used += 1
        try:
            await self.app(scope, receive, send)
        finally:
            slots.used -= 1


@dataclass
class _Slots:
    limit: int
    used: int = 0

"""Admission control: how many requests one process works on at a time."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from starlette.types import ASGIApp, Receive, Scope, Send

from api.errors import Overloaded, to_response


class ConcurrencyLimitMiddleware:
    """Takes so many requests at a time: more would wait for each other and take memory until none is answered."""

    def __init__(
        self, app: ASGIApp, public_paths: frozenset[str], limit: int, per_path_limits: Mapping[str, int]
    ) -> None:
        """``public``: paths that are always answered. ``apart``: pattern of a whole path -> requests to such paths that
        are taken at a time; they are not counted among the ``most`` others."""
        self.app = app
        self.public_paths = public_paths
        self.per_path_slots = [(re.compile(pattern), _Slots(limit)) for pattern, limit in per_path_limits.items()]
        self.default_slots = _Slots(limit)
        # Made once and not logged: what a refusal takes is missing for those who are answered.
        self.overloaded_response = to_response(Overloaded())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in self.public_paths:
            await self.app(scope, receive, send)
            return
        room = next(
            (room for pattern, room in self.per_path_slots if pattern.fullmatch(scope["path"])), self.default_slots
        )
        if room.used >= room.limit:
            await self.overloaded_response(scope, receive, send)
            return
        room.used += 1
        try:
            await self.app(scope, receive, send)
        finally:
            room.used -= 1


@dataclass
class _Slots:
    limit: int
    used: int = 0

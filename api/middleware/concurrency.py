"""Admission control: how many requests one process works on at a time."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from starlette.types import ASGIApp, Receive, Scope, Send

from api.errors import Overloaded, answer


class ConcurrencyLimitMiddleware:
    """Takes so many requests at a time: more would wait for each other and take memory until none is answered."""

    def __init__(self, app: ASGIApp, public: frozenset[str], most: int, apart: Mapping[str, int]) -> None:
        """``public``: paths that are always answered. ``apart``: pattern of a whole path -> requests to such paths that
        are taken at a time; they are not counted among the ``most`` others."""
        self.app = app
        self.public = public
        self.rooms = [(re.compile(pattern), _Room(limit)) for pattern, limit in apart.items()]
        self.others = _Room(most)
        # Made once and not logged: what a refusal takes is missing for those who are answered.
        self.refusal = answer(Overloaded())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in self.public:
            await self.app(scope, receive, send)
            return
        room = next((room for pattern, room in self.rooms if pattern.fullmatch(scope["path"])), self.others)
        if room.taken >= room.places:
            await self.refusal(scope, receive, send)
            return
        room.taken += 1
        try:
            await self.app(scope, receive, send)
        finally:
            room.taken -= 1


@dataclass
class _Room:
    places: int
    taken: int = 0

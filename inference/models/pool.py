"""What is loaded: shared while in use, kept as long as there is room, the least recently used dropped first."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from inference.protocol.errors import EngineUnavailable

WAIT_SECONDS = 30.0
"""How long a load waits for a place when everything loaded is in use."""


class Closable(Protocol):
    async def close(self) -> None:
        """Give back what it holds."""


V = TypeVar("V", bound=Closable)


@dataclass(eq=False)
class _Entry(Generic[V]):
    loading: asyncio.Task[V]
    users: int = 0


class Pool(Generic[V]):
    """At most ``places`` values, by key. Used from one event loop; loading and closing may take their time."""

    def __init__(self, places: int, wait_seconds: float = WAIT_SECONDS) -> None:
        self._places = places
        self._wait_seconds = wait_seconds
        # The least recently used first.
        self._entries: dict[Hashable, _Entry[V]] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._freed = asyncio.Event()

    def __len__(self) -> int:
        return len(self._entries)

    def values(self) -> list[V]:
        """What is loaded now."""
        tasks = [entry.loading for entry in self._entries.values()]
        return [task.result() for task in tasks if task.done() and not task.exception()]

    @asynccontextmanager
    async def lease(self, key: Hashable, load: Callable[[], Awaitable[V]]) -> AsyncIterator[V]:
        """The value under ``key``, loaded by the first who asks and not dropped while anyone uses it.

        A load goes on when those who asked have left; one that fails raises for all who wait for it and leaves
        nothing behind. Raises ``EngineUnavailable`` when nothing loaded can make room.
        """
        if key not in self._entries:
            await self._make_room(key)
        entry = self._entries.pop(key, None) or self._begin(key, load)
        self._entries[key] = entry
        entry.users += 1
        try:
            yield await asyncio.shield(entry.loading)
        finally:
            entry.users -= 1
            self._freed.set()

    async def close(self) -> None:
        """Drop everything, users or not."""
        for key in reversed(list(self._entries)):
            self._drop(key)
        while self._closing:
            await asyncio.wait(self._closing)

    def _begin(self, key: Hashable, load: Callable[[], Awaitable[V]]) -> _Entry[V]:
        entry: _Entry[V] = _Entry(asyncio.ensure_future(load()))

        def settle(loading: asyncio.Task[V]) -> None:
            if (loading.cancelled() or loading.exception()) and self._entries.get(key) is entry:
                del self._entries[key]
            self._freed.set()

        entry.loading.add_done_callback(settle)
        return entry

    async def _make_room(self, key: Hashable) -> None:
        try:
            async with asyncio.timeout(self._wait_seconds):
                while len(self._entries) + len(self._closing) >= self._places and key not in self._entries:
                    self._freed.clear()
                    if not self._closing:
                        self._drop_oldest()
                    await self._freed.wait()
        except TimeoutError:
            raise EngineUnavailable(
                "Every model that the engine has loaded is in use; try again.", "engine_overloaded"
            ) from None

    def _drop_oldest(self) -> None:
        idle = (key for key, entry in self._entries.items() if not entry.users and entry.loading.done())
        oldest = next(idle, None)
        if oldest is not None:
            self._drop(oldest)

    def _drop(self, key: Hashable) -> None:
        closing = asyncio.create_task(_close(self._entries.pop(key)))
        self._closing.add(closing)

        def settle(closing: asyncio.Task[None]) -> None:
            self._closing.discard(closing)
            self._freed.set()

        closing.add_done_callback(settle)


async def _close(entry: _Entry[V]) -> None:
    entry.loading.cancel()
    await asyncio.wait([entry.loading])
    if not entry.loading.cancelled() and not entry.loading.exception():
        await entry.loading.result().close()

"""Pool of loaded models.

Models in use are shared; the least recently used idle model is evicted first.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from inference.protocol.errors import EngineUnavailable

MAX_WAIT_SECONDS = 30.0
"""Maximum time that a load waits for a slot while all loaded models are in use."""


class Closable(Protocol):
    async def close(self) -> None:
        """Release all resources."""


V = TypeVar("V", bound=Closable)


@dataclass(eq=False)
class _Entry(Generic[V]):
    loading: asyncio.Task[V]
    use_count: int = 0


class ModelPool(Generic[V]):
    """Pool of at most ``capacity`` values by key, for one event loop.

    Loading and closing may be slow.
    """

    def __init__(self, capacity: int, wait_seconds: float = MAX_WAIT_SECONDS) -> None:
        self._capacity = capacity
        self._wait_seconds = wait_seconds
        # Ordered from the least to the most recently used.
        self._entries: dict[Hashable, _Entry[V]] = {}
        self._closing_tasks: set[asyncio.Task[None]] = set()
        self._slot_freed = asyncio.Event()

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, key: Hashable) -> bool:
        return key in self._entries

    def values(self) -> list[V]:
        """Return all loaded values."""
        tasks = [entry.loading for entry in self._entries.values()]
        return [task.result() for task in tasks if task.done() and not task.exception()]

    @asynccontextmanager
    async def acquire(self, key: Hashable, load: Callable[[], Awaitable[V]]) -> AsyncIterator[V]:
        """Yield the value of ``key``.

        The first lease loads it; it is not evicted within the context.

        A load continues if its callers are cancelled. A failed load raises for all callers that
        wait for it and leaves no entry. Raises ``EngineUnavailable`` if no slot becomes free in
        time.
        """
        if key not in self._entries:
            await self._free_slot(key)
        entry = self._entries.pop(key, None) or self._start_load(key, load)
        self._entries[key] = entry
        entry.use_count += 1
        try:
            yield await asyncio.shield(entry.loading)
        finally:
            entry.use_count -= 1
            self._slot_freed.set()

    async def close(self) -> None:
        """Evict all values, including those in use."""
        for key in reversed(list(self._entries)):
            self._evict(key)
        while self._closing_tasks:
            await asyncio.wait(self._closing_tasks)

    def _start_load(self, key: Hashable, load: Callable[[], Awaitable[V]]) -> _Entry[V]:
        entry: _Entry[V] = _Entry(asyncio.ensure_future(load()))

        def settle(loading: asyncio.Task[V]) -> None:
            if (loading.cancelled() or loading.exception()) and self._entries.get(key) is entry:
                del self._entries[key]
            self._slot_freed.set()

        entry.loading.add_done_callback(settle)
        return entry

    async def _free_slot(self, key: Hashable) -> None:
        try:
            async with asyncio.timeout(self._wait_seconds):
                while len(self._entries) + len(self._closing_tasks) >= self._capacity and key not in self._entries:
                    self._slot_freed.clear()
                    if not self._closing_tasks:
                        self._evict_oldest()
                    await self._slot_freed.wait()
        except TimeoutError:
            raise EngineUnavailable(
                "All models that the engine has loaded are in use; try again.", "engine_overloaded"
            ) from None

    def _evict_oldest(self) -> None:
        idle = (key for key, entry in self._entries.items() if not entry.use_count and entry.loading.done())
        oldest = next(idle, None)
        if oldest is not None:
            self._evict(oldest)

    def _evict(self, key: Hashable) -> None:
        closing = asyncio.create_task(_close_entry(self._entries.pop(key)))
        self._closing_tasks.add(closing)

        def settle(closing: asyncio.Task[None]) -> None:
            self._closing_tasks.discard(closing)
            self._slot_freed.set()

        closing.add_done_callback(settle)


async def _close_entry(entry: _Entry[V]) -> None:
    entry.loading.cancel()
    await asyncio.wait([entry.loading])
    if not entry.loading.cancelled() and not entry.loading.exception():
        await entry.loading.result().close()

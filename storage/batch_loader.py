"""Batching of concurrent lookups into one query (DataLoader pattern).

A thousand clients that poll their jobs request a thousand rows every second or two. With one query
each, most of the time is spent on the way to the database's thread and back. Keys requested while a
query runs, or soon after one began, are therefore batched into the next query. This is not a cache:
every result comes from a query that began after the request, so later requests see every written
row and every revoked key.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from itertools import islice
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")

MAX_KEYS = 500
"""Keys per query. SQLite allows 32,766 variables, and a huge query would delay the ones after
it."""
MIN_INTERVAL_SECONDS = 0.012
"""Minimum time between the starts of two queries. A single caller does not wait; concurrent callers
share queries."""


class BatchLoader(Generic[K, V]):
    """Loads values by key. ``query`` maps keys to existing values; one task at a time runs it."""

    def __init__(self, query: Callable[[Sequence[K]], Awaitable[Mapping[K, V]]]) -> None:
        self._query = query
        self._pending: dict[K, asyncio.Future[V | None]] = {}
        self._runner: asyncio.Task[None] | None = None
        self._next_query_at = 0.0
        """Earliest start of the next query, by the loop's clock."""

    async def load(self, key: K) -> V | None:
        """Return the value for ``key``, or None if there is none. Raises what the query raised."""
        future = self._pending.get(key)
        if future is None:
            future = self._pending[key] = asyncio.get_running_loop().create_future()
        if self._runner is None:
            self._runner = asyncio.create_task(self._run())
        # Cancelling one caller must not cancel the result of the others.
        return await asyncio.shield(future)

    async def _run(self) -> None:
        clock = asyncio.get_running_loop().time
        while self._pending:
            if (delay := self._next_query_at - clock()) > 0:
                await asyncio.sleep(delay)
            self._next_query_at = clock() + MIN_INTERVAL_SECONDS
            pending = dict(islice(self._pending.items(), MAX_KEYS))
            for key in pending:
                del self._pending[key]
            await self._resolve(pending)
        self._runner = None

    async def _resolve(self, pending: Mapping[K, asyncio.Future[V | None]]) -> None:
        try:
            values = await self._query(list(pending))
        # Every error is passed on to the callers.
        except Exception as error:
            for future in pending.values():
                future.set_exception(error)
                # Retrieve it: asyncio would log it as unretrieved if all callers were cancelled.
                future.exception()
            return
        for key, future in pending.items():
            future.set_result(values.get(key))

"""Many look-ups at once as one query.

A thousand clients that poll their jobs ask for a thousand rows a second or two; a query of its own for each spends most
of its time on the way to the database's thread and back. Here what is asked for while a query runs, or soon after one
began, goes into the next. It is no cache: every answer comes from a query that began after it was asked for, so a row
that was written, or a key that was revoked, is seen by whoever asks afterwards.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from itertools import islice
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")

MAX_KEYS = 500
"""Keys in one query; SQLite takes 32,766 variables, and a huge query would hold up those behind it."""
MIN_INTERVAL_SECONDS = 0.012
"""From one query's beginning to the next one's. Who asks alone never waits; of many, some go together."""


class BatchLoader(Generic[K, V]):
    """``query`` maps keys to what there is of them; it is run by one task at a time."""

    def __init__(self, query: Callable[[Sequence[K]], Awaitable[Mapping[K, V]]]) -> None:
        self._query = query
        self._pending: dict[K, asyncio.Future[V | None]] = {}
        self._runner: asyncio.Task[None] | None = None
        self._next_query_at = 0.0
        """When the next query may begin, by the loop's clock."""

    async def load(self, key: K) -> V | None:
        """None where the query found nothing. Raises what the query raised."""
        answer = self._pending.get(key)
        if answer is None:
            answer = self._pending[key] = asyncio.get_running_loop().create_future()
        if self._runner is None:
            self._runner = asyncio.create_task(self._run())
        # One who leaves must not take the answer from the others who wait for it.
        return await asyncio.shield(answer)

    async def _run(self) -> None:
        clock = asyncio.get_running_loop().time
        while self._pending:
            if (early := self._next_query_at - clock()) > 0:
                await asyncio.sleep(early)
            self._next_query_at = clock() + MIN_INTERVAL_SECONDS
            pending = dict(islice(self._pending.items(), MAX_KEYS))
            for key in pending:
                del self._pending[key]
            await self._resolve(pending)
        self._runner = None

    async def _resolve(self, asked: Mapping[K, asyncio.Future[V | None]]) -> None:
        try:
            found = await self._query(list(asked))
        # Whatever it is, it belongs to those who asked.
        except Exception as error:
            for answer in asked.values():
                answer.set_exception(error)
                # Read here, too: an asker who has left must not make asyncio complain of an error that nobody saw.
                answer.exception()
            return
        for key, answer in asked.items():
            answer.set_result(found.get(key))

"""Bounded thread pools, one per kind of blocking work.

asyncio's default pool has few threads (CPUs + 4) and also resolves host names. Calls that wait for
a slow bucket there would stop new connections to the database and the engine.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class ThreadPool:
    """At most ``size`` threads. Further calls wait for one of them."""

    def __init__(self, name: str, size: int) -> None:
        self._executor = ThreadPoolExecutor(size, thread_name_prefix=name)

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call ``function`` in a thread and return its result. Raises its errors.

        If the caller is cancelled, a call that has begun continues, and a waiting one never runs.
        """
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._executor, partial(function, *args, **kwargs))

    def close(self) -> None:
        """Drop the calls that wait. Does not wait for those that run."""
        self._executor.shutdown(wait=False, cancel_futures=True)

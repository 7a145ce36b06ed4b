"""Concurrency helpers in an async and a sync version.

``sdk/codegen/sync_client.py`` replaces the async names in the sync client.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
Item = TypeVar("Item")
Result = TypeVar("Result")


async def async_sleep(seconds: float) -> None:
    await asyncio.sleep(seconds)


def sleep(seconds: float) -> None:
    time.sleep(seconds)


async def run_in_thread(work: Callable[P, Result], *args: P.args, **options: P.kwargs) -> Result:
    """Run ``work`` in a thread, because disk access would block the event loop."""
    return await asyncio.to_thread(work, *args, **options)


def run_inline(work: Callable[P, Result], *args: P.args, **options: P.kwargs) -> Result:
    return work(*args, **options)


async def gather_limited(work: Callable[[Item], Awaitable[Result]], items: Iterable[Item], limit: int) -> list[Result]:
    """Run ``work`` on up to ``limit`` items concurrently and return the results in order.

    The first error cancels the remaining items.
    """
    slots = asyncio.Semaphore(limit)

    async def run_limited(item: Item) -> Result:
        async with slots:
            return await work(item)

    tasks = [asyncio.ensure_future(run_limited(item)) for item in items]
    try:
        return list(await asyncio.gather(*tasks))
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise


def map_in_threads(work: Callable[[Item], Result], items: Iterable[Item], limit: int) -> list[Result]:
    """Do the same as :func:`gather_limited` in threads."""
    pool = ThreadPoolExecutor(limit)
    try:
        return list(pool.map(work, items))
    finally:
        pool.shutdown(cancel_futures=True)

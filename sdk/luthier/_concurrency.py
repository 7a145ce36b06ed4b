"""Waiting, once for programs with an event loop and once for those without; ``sdk/twins.py`` swaps the names."""

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
    """``work`` on a disk, which would hold up the event loop."""
    return await asyncio.to_thread(work, *args, **options)


def run_inline(work: Callable[P, Result], *args: P.args, **options: P.kwargs) -> Result:
    return work(*args, **options)


async def gather_limited(work: Callable[[Item], Awaitable[Result]], items: Iterable[Item], limit: int) -> list[Result]:
    """The results in the order of the items, so many being made at once. The first error ends them all."""
    free = asyncio.Semaphore(limit)

    async def run_limited(item: Item) -> Result:
        async with free:
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
    """As :func:`aspread`, in threads."""
    pool = ThreadPoolExecutor(limit)
    try:
        return list(pool.map(work, items))
    finally:
        pool.shutdown(cancel_futures=True)

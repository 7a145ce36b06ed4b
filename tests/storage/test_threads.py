"""Bounded thread pools."""

from __future__ import annotations

import asyncio
import threading

import pytest

from storage.threads import ThreadPool

pytestmark = pytest.mark.anyio


async def test_calls_return_raise_and_keep_to_the_size() -> None:
    pool, lock, running, most = ThreadPool("test", 2), threading.Lock(), 0, 0

    def count(seconds: float) -> str:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        threading.Event().wait(seconds)
        with lock:
            running -= 1
        return threading.current_thread().name

    names = await asyncio.gather(*(pool.run(count, seconds=0.02) for _ in range(8)))
    assert most == 2
    assert all(name.startswith("test") for name in names)
    with pytest.raises(ZeroDivisionError):
        await pool.run(lambda: 1 // 0)
    pool.close()


async def test_closing_drops_waiting_calls_and_waits_for_none() -> None:
    pool, release, ran = ThreadPool("test", 1), threading.Event(), []
    running = asyncio.ensure_future(pool.run(release.wait, 30))
    waiting = asyncio.ensure_future(pool.run(ran.append, 1))
    await asyncio.sleep(0.01)
    pool.close()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    release.set()
    assert await running
    assert not ran

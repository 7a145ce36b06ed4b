"""The doorbell on a real Redis, also on one that dies."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from jobs import wakeup
from jobs.wakeup import WakeupChannel
from tests import services

pytestmark = [
    pytest.mark.anyio,
    # arq's own clean-up calls a method that redis-py has renamed.
    pytest.mark.filterwarnings("ignore:Call to deprecated close:DeprecationWarning"),
]


@asynccontextmanager
async def listen_in_background(channel: WakeupChannel, received: list[float]) -> AsyncIterator[None]:
    task = asyncio.create_task(channel.listen(lambda: received.append(time.monotonic())))
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def wait_until(condition: object, timeout_seconds: float = 10.0) -> None:
    deadline = time.monotonic() + timeout_seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


async def test_a_notification_arrives_immediately(redis_url: str) -> None:
    bell, heard = wakeup.connect(redis_url), list[float]()
    async with listen_in_background(bell, heard):
        await bell.notify("ftjob-first", 0)
        await wait_until(lambda: heard)
        for number in range(5):
            rung = time.monotonic()
            assert await bell.notify("ftjob-a", number)
            await wait_until(lambda number=number: len(heard) == number + 2)
            assert heard[-1] - rung < 1.0
    await bell.close()


async def test_the_same_job_can_be_notified_again(redis_url: str) -> None:
    bell, heard = wakeup.connect(redis_url), list[float]()
    async with listen_in_background(bell, heard):
        await bell.notify("ftjob-b", 0)
        await wait_until(lambda: len(heard) == 1)
        await asyncio.sleep(0.2)
        await bell.notify("ftjob-b", 0)
        await wait_until(lambda: len(heard) == 2)
    await bell.close()


async def test_without_redis_a_notification_is_lost_quickly_and_quietly(tmp_path: Path) -> None:
    bell = wakeup.connect(f"unix://{tmp_path}/none.sock")
    began = time.monotonic()
    assert await bell.notify("ftjob-c", 0) is False
    assert time.monotonic() - began < 3
    with pytest.raises((OSError, wakeup.RedisError)):
        await bell.ping()


async def test_listening_resumes_when_redis_comes_back(tmp_path: Path) -> None:
    heard = list[float]()
    with services.run_redis(tmp_path) as (url, process):
        bell = wakeup.connect(url)
        async with listen_in_background(bell, heard):
            await bell.notify("ftjob-d", 0)
            await wait_until(lambda: heard)
            process.kill()
            process.wait()
            assert await bell.notify("ftjob-e", 0) is False
            (tmp_path / "redis.sock").unlink(missing_ok=True)
            with services.run_redis(tmp_path):
                await notify_until_sent(bell)
                await wait_until(lambda: len(heard) >= 2)
        await bell.close()


async def notify_until_sent(channel: WakeupChannel) -> None:
    deadline = time.monotonic() + 10
    while not await channel.notify("ftjob-f", 0):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.1)

"""The wake-up channel on a real Redis, also on one that dies."""

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
    # arq's cleanup calls a method that redis-py has renamed.
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
    channel, received = wakeup.connect(redis_url), list[float]()
    async with listen_in_background(channel, received):
        await channel.notify("ftjob-first", 0)
        await wait_until(lambda: received)
        for number in range(5):
            sent_at = time.monotonic()
            assert await channel.notify("ftjob-a", number)
            await wait_until(lambda number=number: len(received) == number + 2)
            assert received[-1] - sent_at < 1.0
    await channel.close()


async def test_the_same_job_can_be_notified_again(redis_url: str) -> None:
    channel, received = wakeup.connect(redis_url), list[float]()
    async with listen_in_background(channel, received):
        await channel.notify("ftjob-b", 0)
        await wait_until(lambda: len(received) == 1)
        await asyncio.sleep(0.2)
        await channel.notify("ftjob-b", 0)
        await wait_until(lambda: len(received) == 2)
    await channel.close()


async def test_without_redis_a_notification_is_lost_quickly_and_quietly(tmp_path: Path) -> None:
    channel = wakeup.connect(f"unix://{tmp_path}/none.sock")
    started_at = time.monotonic()
    assert await channel.notify("ftjob-c", 0) is False
    assert time.monotonic() - started_at < 3
    with pytest.raises((OSError, wakeup.RedisError)):
        await channel.ping()


async def test_listening_resumes_when_redis_comes_back(tmp_path: Path) -> None:
    received = list[float]()
    with services.run_redis(tmp_path) as (url, process):
        channel = wakeup.connect(url)
        async with listen_in_background(channel, received):
            await channel.notify("ftjob-d", 0)
            await wait_until(lambda: received)
            process.kill()
            process.wait()
            assert await channel.notify("ftjob-e", 0) is False
            (tmp_path / "redis.sock").unlink(missing_ok=True)
            with services.run_redis(tmp_path):
                await notify_until_sent(channel)
                await wait_until(lambda: len(received) >= 2)
        await channel.close()


async def notify_until_sent(channel: WakeupChannel) -> None:
    deadline = time.monotonic() + 10
    while not await channel.notify("ftjob-f", 0):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.1)

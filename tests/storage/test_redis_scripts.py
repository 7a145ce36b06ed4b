"""Token buckets in a real Redis, and a Redis that dies, hangs and comes back."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from redis.asyncio import Redis

from storage import redis_scripts
from storage.ids import random_text
from storage.redis_scripts import SCRIPT_TIMEOUT_SECONDS, TOKEN_BUCKETS, RedisScripts
from tests import services

pytestmark = pytest.mark.anyio
ANY_LEVEL = -1e12
"""Required level that every bucket has."""


@dataclass
class Buckets:
    """A bucket for requests and one for tokens, under keys of their own."""

    redis: Redis
    scripts: RedisScripts
    keys: tuple[str, str]

    async def take(self, requests: tuple[float, float, float], tokens: tuple[float, float, float]) -> list[int]:
        """Take from both buckets. Each has a limit, a required level and a cost."""
        reply = await self.scripts.run(TOKEN_BUCKETS, self.keys, [*requests, *tokens])
        assert reply is not None
        return reply

    async def take_requests(self, limit: float, required: float = 1, cost: float = 1) -> list[int]:
        """Take from the first bucket. The second has no limit."""
        passed, *states = await self.take((limit, required, cost), (0, 0, 0))
        assert states[3:] == [0, 0, 0]
        return [passed, *states[:3]]

    async def set_level(self, level: float, age_seconds: float = 0.0) -> None:
        """Set the first bucket's level at a time in the past, by the clock of Redis."""
        seconds, microseconds = await self.redis.time()
        at = seconds * 1000 + microseconds // 1000 - int(age_seconds * 1000)
        await self.redis.hset(self.keys[0], mapping={"level": str(level), "at": str(at)})


@asynccontextmanager
async def open_buckets(url: str) -> AsyncIterator[Buckets]:
    redis = Redis.from_url(url)

    async def connect() -> Redis:
        return redis

    name = random_text(12)
    try:
        yield Buckets(redis, RedisScripts(connect), (f"{name}:requests", f"{name}:tokens"))
    finally:
        await redis.aclose()


@pytest.fixture
async def buckets(redis_url: str) -> AsyncIterator[Buckets]:
    async with open_buckets(redis_url) as buckets:
        yield buckets


async def test_a_new_bucket_is_full(buckets: Buckets) -> None:
    assert await buckets.take_requests(60) == [1, 59, 0, 1000]
    passed, remaining, wait_ms, reset_ms = await buckets.take_requests(60)
    assert (passed, remaining, wait_ms) == (1, 58, 0)
    assert 1000 < reset_ms <= 2000


async def test_an_empty_bucket_rejects_and_reports_the_wait(buckets: Buckets) -> None:
    assert [(await buckets.take_requests(2))[:2] for _ in range(2)] == [[1, 1], [1, 0]]
    for _ in range(3):
        passed, remaining, wait_ms, reset_ms = await buckets.take_requests(2)
        assert (passed, remaining) == (0, 0)
        assert 25_000 < wait_ms <= 30_000
        assert 55_000 < reset_ms <= 60_000


async def test_a_rejected_request_costs_nothing(buckets: Buckets) -> None:
    await buckets.take_requests(2, cost=2)
    before = await buckets.redis.hgetall(buckets.keys[0])
    assert (await buckets.take_requests(2))[0] == 0
    assert await buckets.redis.hgetall(buckets.keys[0]) == before


async def test_a_bucket_fills_steadily(buckets: Buckets) -> None:
    await buckets.set_level(0, age_seconds=3)
    passed, remaining, _, _ = await buckets.take_requests(600, required=30, cost=0)
    assert passed == 1
    assert 30 <= remaining < 60
    await buckets.set_level(0, age_seconds=3)
    passed, _, wait_ms, _ = await buckets.take_requests(600, required=300, cost=0)
    assert passed == 0
    assert 24_000 < wait_ms <= 27_000


async def test_the_reported_wait_is_sufficient_and_necessary(buckets: Buckets) -> None:
    await buckets.take_requests(200, cost=200)
    passed, _, wait_ms, _ = await buckets.take_requests(200)
    assert passed == 0
    assert 0 < wait_ms <= 300
    await asyncio.sleep(wait_ms / 1000 + 0.005)
    assert (await buckets.take_requests(200))[0] == 1
    assert (await buckets.take_requests(200))[0] == 0


@pytest.mark.parametrize("level", [0, 5, -1000])
async def test_a_bucket_never_exceeds_its_limit(buckets: Buckets, level: float) -> None:
    await buckets.set_level(level, age_seconds=86_400)
    assert await buckets.take_requests(10, cost=0) == [1, 10, 0, 0]


async def test_a_lower_limit_takes_effect_immediately(buckets: Buckets) -> None:
    await buckets.take_requests(1000)
    assert (await buckets.take_requests(10, cost=0))[:2] == [1, 10]


async def test_a_clock_that_goes_back_takes_nothing(buckets: Buckets) -> None:
    await buckets.set_level(4, age_seconds=-60)
    assert await buckets.take_requests(10, cost=0) == [1, 4, 0, 36_000]


async def test_a_charge_may_leave_a_debt_that_delays_the_next_request(buckets: Buckets) -> None:
    assert await buckets.take_requests(10, required=ANY_LEVEL, cost=25) == [1, 0, 0, 150_000]
    passed, remaining, wait_ms, reset_ms = await buckets.take_requests(10)
    assert (passed, remaining) == (0, 0)
    assert 95_000 < wait_ms <= 96_000
    assert 149_000 < reset_ms <= 150_000
    assert (await buckets.take_requests(10, required=ANY_LEVEL, cost=5))[0] == 1
    assert 125_000 < (await buckets.take_requests(10))[2] <= 126_000


@pytest.mark.parametrize("empty", [0, 1])
async def test_both_buckets_are_charged_or_none(buckets: Buckets, empty: int) -> None:
    full, drained = (10, 1, 1), (10, 1, 10)
    await buckets.take(*((drained, (10, 0, 0)) if empty == 0 else ((10, 0, 0), drained)))
    reply = await buckets.take(full, full)
    remaining = {0: reply[1], 1: reply[4]}
    assert reply[0] == 0
    assert remaining == {empty: 0, 1 - empty: 10}
    assert (reply[2 + 3 * empty] > 0, reply[2 + 3 * (1 - empty)]) == (True, 0)
    assert await buckets.redis.exists(buckets.keys[1 - empty]) == 0


async def test_the_buckets_have_their_own_limits_and_costs(buckets: Buckets) -> None:
    assert await buckets.take((60, 1, 1), (6000, 1, 500)) == [1, 59, 0, 1000, 5500, 0, 5000]


async def test_nothing_is_stored_without_a_limit_or_a_cost(buckets: Buckets) -> None:
    assert await buckets.take((0, 1, 1), (0, 5, 5)) == [1, 0, 0, 0, 0, 0, 0]
    assert await buckets.take((10, 1, 0), (10, 1, 0)) == [1, 10, 0, 0, 10, 0, 0]
    assert await buckets.redis.exists(*buckets.keys) == 0


async def test_a_bucket_is_stored_until_it_is_full(buckets: Buckets) -> None:
    *_, reset_ms = await buckets.take_requests(60, cost=10)
    assert reset_ms == 10_000
    assert 10_000 < await buckets.redis.pttl(buckets.keys[0]) <= 11_000


async def test_concurrent_requests_share_a_bucket(buckets: Buckets) -> None:
    replies = await asyncio.gather(*(buckets.take_requests(20) for _ in range(60)))
    assert sum(reply[0] for reply in replies) == 20
    assert sorted(reply[1] for reply in replies if reply[0]) == list(range(20))


class Connector:
    """Connects to a Redis that may not exist, and counts the attempts."""

    def __init__(self, url: str) -> None:
        self.redis = Redis.from_url(url)
        self.attempts = 0

    async def connect(self) -> Redis:
        self.attempts += 1
        return self.redis


@contextmanager
def retry_after(seconds: float) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(redis_scripts, "RETRY_AFTER_SECONDS", seconds)
        yield


async def count_full_buckets(scripts: RedisScripts, name: str) -> list[int] | None:
    return await scripts.run(TOKEN_BUCKETS, [f"{name}:a", f"{name}:b"], [10, 1, 0, 0, 0, 0])


async def test_an_unavailable_redis_is_retried_only_after_a_pause(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    connector = Connector(f"unix://{tmp_path}/none.sock")
    scripts = RedisScripts(connector.connect)
    with retry_after(0.5):
        assert [await count_full_buckets(scripts, "x") for _ in range(20)] == [None] * 20
        assert connector.attempts == 1
        await asyncio.sleep(0.55)
        assert [await count_full_buckets(scripts, "x") for _ in range(20)] == [None] * 20
        assert connector.attempts == 2
    assert caplog.text.count("Redis is unavailable (ConnectionError)") == 2
    await connector.redis.aclose()


async def test_errors_of_the_connection_itself_count_as_unavailable() -> None:
    async def fail() -> Redis:
        raise OSError("no route")

    assert await count_full_buckets(RedisScripts(fail), "x") is None


async def test_a_redis_that_comes_back_limits_again(tmp_path: Path) -> None:
    with services.run_redis(tmp_path) as (url, process):
        connector = Connector(url)
        scripts = RedisScripts(connector.connect)
        with retry_after(0.5):
            assert await count_full_buckets(scripts, "x") == [1, 10, 0, 0, 0, 0, 0]
            process.kill()
            process.wait()
            assert await count_full_buckets(scripts, "x") is None
            (tmp_path / "redis.sock").unlink(missing_ok=True)
            with services.run_redis(tmp_path):
                assert await count_full_buckets(scripts, "x") is None, "retried before the pause ended"
                await asyncio.sleep(0.55)
                assert await count_full_buckets(scripts, "x") == [1, 10, 0, 0, 0, 0, 0]
                assert connector.attempts == 3
                await connector.redis.aclose()


async def test_a_hung_redis_delays_a_request_briefly_and_once(tmp_path: Path) -> None:
    with services.run_redis(tmp_path) as (url, process):
        connector = Connector(url)
        scripts = RedisScripts(connector.connect)
        with retry_after(0.5):
            await count_full_buckets(scripts, "x")
            process.send_signal(signal.SIGSTOP)
            started_at = time.monotonic()
            assert [await count_full_buckets(scripts, "x") for _ in range(20)] == [None] * 20
            assert SCRIPT_TIMEOUT_SECONDS * 0.9 < time.monotonic() - started_at < 5 * SCRIPT_TIMEOUT_SECONDS
            process.send_signal(signal.SIGCONT)
            await asyncio.sleep(0.55)
            assert await count_full_buckets(scripts, "x") == [1, 10, 0, 0, 0, 0, 0]
        await connector.redis.aclose()

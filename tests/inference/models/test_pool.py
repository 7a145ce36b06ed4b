"""Model pool: models are shared, limited in number, and evicted only while idle."""

from __future__ import annotations

import asyncio
import random

import pytest

from inference.models.pool import ModelPool
from inference.protocol.errors import EngineError, EngineUnavailable

pytestmark = pytest.mark.anyio


class FakeModel:
    """Model that records whether it was closed."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.closed = False

    async def close(self) -> None:
        await asyncio.sleep(0)
        self.closed = True


class Loader:
    """Slow loader that records its calls; names that begin with ``bad`` fail."""

    def __init__(self) -> None:
        self.loaded: list[str] = []
        self.alive: set[FakeModel] = set()
        self.max_alive = 0

    async def __call__(self, name: str) -> FakeModel:
        self.loaded.append(name)
        await asyncio.sleep(0.002)
        if name.startswith("bad"):
            raise EngineError("model_unusable", name)
        value = FakeModel(name)
        self.alive = {model for model in self.alive if not model.closed} | {value}
        self.max_alive = max(self.max_alive, len(self.alive))
        return value


async def use(pool: ModelPool[FakeModel], loader: Loader, name: str, seconds: float = 0.0) -> str:
    async with pool.acquire(name, lambda: loader(name)) as value:
        await asyncio.sleep(seconds)
        assert not value.closed, "a model was evicted while in use"
        return value.name


async def test_concurrent_requests_share_one_load() -> None:
    pool, loader = ModelPool[FakeModel](2), Loader()
    assert await asyncio.gather(*(use(pool, loader, "a", 0.01) for _ in range(20))) == ["a"] * 20
    assert loader.loaded == ["a"]


async def test_the_least_recently_used_is_evicted_first() -> None:
    pool, loader = ModelPool[FakeModel](2), Loader()
    for name in ("a", "b", "a", "c"):
        await use(pool, loader, name)
    assert sorted(value.name for value in pool.values()) == ["a", "c"]
    assert sorted(value.name for value in loader.alive) == ["a", "c"], "the evicted model was closed before the load"


async def test_no_model_in_use_is_evicted_and_the_wait_times_out() -> None:
    pool, loader = ModelPool[FakeModel](1, wait_seconds=0.05), Loader()
    async with pool.acquire("a", lambda: loader("a")) as value:
        with pytest.raises(EngineUnavailable) as caught:
            await use(pool, loader, "b")
        assert caught.value.code == "engine_overloaded"
        assert not value.closed
    assert await use(pool, loader, "b") == "b"
    assert value.closed


async def test_a_waiting_request_gets_the_slot_as_soon_as_it_is_free() -> None:
    pool, loader = ModelPool[FakeModel](1, wait_seconds=5), Loader()
    names = await asyncio.gather(*(use(pool, loader, name, 0.02) for name in "abcd"))
    assert names == list("abcd")


async def test_a_failed_load_raises_for_all_and_leaves_nothing() -> None:
    pool, loader = ModelPool[FakeModel](2), Loader()
    results = await asyncio.gather(*(use(pool, loader, "bad") for _ in range(3)), return_exceptions=True)
    assert [type(result) for result in results] == [EngineError] * 3
    assert loader.loaded == ["bad"]
    assert len(pool) == 0
    with pytest.raises(EngineError):
        await use(pool, loader, "bad")
    assert loader.loaded == ["bad", "bad"], "the next lease must load again"


async def test_a_load_outlives_its_cancelled_request() -> None:
    pool, loader = ModelPool[FakeModel](2), Loader()
    task = asyncio.create_task(use(pool, loader, "a"))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await use(pool, loader, "a")
    assert loader.loaded == ["a"]


async def test_a_failed_load_that_no_one_awaits_is_quiet() -> None:
    pool, loader = ModelPool[FakeModel](2), Loader()
    task = asyncio.create_task(use(pool, loader, "bad"))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.sleep(0.02)
    assert len(pool) == 0


async def test_many_names_over_few_slots_never_get_the_wrong_model() -> None:
    """Send 1,000 requests for 100 names to 4 slots; some loads fail and some requests are
    cancelled."""
    rng, pool, loader = random.Random(0), ModelPool[FakeModel](4, wait_seconds=30), Loader()
    names = [f"{'bad' if rng.random() < 0.1 else 'm'}{rng.randrange(100)}" for _ in range(1000)]

    async def use_after_delay(name: str) -> str:
        await asyncio.sleep(rng.random())
        return await use(pool, loader, name, rng.random() * 0.002)

    tasks = [asyncio.create_task(use_after_delay(name)) for name in names]
    for task in rng.sample(tasks, 50):
        asyncio.get_running_loop().call_later(rng.random(), task.cancel)
    results = await asyncio.gather(*tasks, return_exceptions=True)
    for name, result in zip(names, results, strict=True):
        is_expected = isinstance(result, EngineError) if name.startswith("bad") else result == name
        assert is_expected or isinstance(result, asyncio.CancelledError)
    assert loader.max_alive <= 4
    await pool.close()
    assert all(value.closed for value in loader.alive)

"""Batcher: concurrent requests run as a batch; each gets its own result or error."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

import pytest

from inference.pooling.batcher import Batcher
from inference.protocol.errors import EngineError, EngineUnavailable
from storage.threads import ThreadPool

pytestmark = pytest.mark.anyio


class Doubler:
    """Doubles numbers once it is unblocked, and rejects negative ones."""

    def __init__(self) -> None:
        self.unblocked = threading.Event()
        self.batches: list[list[int]] = []
        self.batcher = Batcher[int, int](self.double, max_batch_size=4, pool=ThreadPool("forward", 1))

    def double(self, numbers: Sequence[int]) -> list[int | EngineError]:
        self.unblocked.wait(5)
        self.batches.append([*numbers])
        if 13 in numbers:
            raise MemoryError
        return [EngineError("invalid_request", str(number)) if number < 0 else 2 * number for number in numbers]

    async def submit_all(self, *numbers: int) -> list[int | BaseException]:
        """Submit all numbers while a first request is running, then unblock it."""
        first = asyncio.create_task(self.batcher.submit(0, 1))
        await asyncio.sleep(0.01)
        rest = [asyncio.create_task(self.batcher.submit(number, 1)) for number in numbers]
        await asyncio.sleep(0.01)
        self.unblocked.set()
        return await asyncio.gather(first, *rest, return_exceptions=True)


async def test_waiting_requests_form_the_next_batch() -> None:
    doubler = Doubler()
    assert await doubler.submit_all(1, 2, 3, 4, 5) == [0, 2, 4, 6, 8, 10]
    assert doubler.batches == [[0], [1, 2, 3, 4], [5]]
    assert await doubler.batcher.submit(6, 1) == 12, "the batcher must run again after it was idle"


async def test_a_request_larger_than_a_batch_runs_alone() -> None:
    doubler = Doubler()
    doubler.unblocked.set()
    assert await asyncio.gather(*(doubler.batcher.submit(number, 9) for number in (1, 2))) == [2, 4]
    assert doubler.batches == [[1], [2]]


async def test_an_error_is_raised_only_for_its_request() -> None:
    results = await Doubler().submit_all(1, -2, 3)
    assert [result for result in results if not isinstance(result, EngineError)] == [0, 2, 6]
    assert isinstance(results[2], EngineError)


async def test_a_failed_batch_fails_its_requests_and_no_later_batch() -> None:
    doubler = Doubler()
    results = await doubler.submit_all(1, 13)
    assert [type(result) for result in results] == [int, MemoryError, MemoryError]
    assert await doubler.batcher.submit(4, 1) == 8


async def test_cancelled_requests_do_not_run() -> None:
    doubler = Doubler()
    first = asyncio.create_task(doubler.batcher.submit(0, 1))
    await asyncio.sleep(0.01)
    cancelled = asyncio.create_task(doubler.batcher.submit(1, 1))
    await asyncio.sleep(0.01)
    cancelled.cancel()
    await asyncio.sleep(0.01)
    doubler.unblocked.set()
    await first
    assert await doubler.batcher.submit(2, 1) == 4
    assert doubler.batches == [[0], [2]]


async def test_a_full_queue_rejects_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("inference.pooling.batcher.MAX_WAITING", 3)
    doubler = Doubler()
    results = await doubler.submit_all(1, 2, 3, 4)
    assert results[:4] == [0, 2, 4, 6]
    assert isinstance(results[4], EngineUnavailable)
    assert results[4].code == "engine_overloaded"
    assert await doubler.batcher.submit(5, 1) == 10

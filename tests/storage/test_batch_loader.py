"""Concurrent lookups share a query, and no result is older than its request."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import pytest

from storage.batch_loader import MAX_KEYS, BatchLoader

pytestmark = pytest.mark.anyio


class FakeTable:
    """Table that records its queries and blocks them until ``unblocked`` is set."""

    def __init__(self) -> None:
        self.rows: dict[int, str] = {}
        self.queries: list[list[int]] = []
        self.unblocked = asyncio.Event()
        self.unblocked.set()

    async def query(self, keys: Sequence[int]) -> Mapping[int, str]:
        self.queries.append(list(keys))
        rows = {key: self.rows[key] for key in keys if key in self.rows}
        await self.unblocked.wait()
        return rows


async def test_keys_requested_while_a_query_runs_go_into_the_next() -> None:
    table = FakeTable()
    table.rows = {number: str(number) for number in range(10)}
    table.unblocked.clear()
    loader = BatchLoader(table.query)
    tasks = [asyncio.create_task(loader.load(number)) for number in (0, 1)]
    await asyncio.sleep(0.01)
    tasks += [asyncio.create_task(loader.load(number)) for number in (2, 3, 3, 99)]
    await asyncio.sleep(0.01)
    table.unblocked.set()
    assert await asyncio.gather(*tasks) == ["0", "1", "2", "3", "3", None]
    assert table.queries == [[0, 1], [2, 3, 99]]


async def test_a_result_is_never_older_than_its_request() -> None:
    table = FakeTable()
    table.rows = {1: "old"}
    table.unblocked.clear()
    loader = BatchLoader(table.query)
    before = asyncio.create_task(loader.load(1))
    await asyncio.sleep(0.01)
    table.rows = {1: "new"}
    after = asyncio.create_task(loader.load(1))
    await asyncio.sleep(0.01)
    table.unblocked.set()
    assert [await before, await after] == ["old", "new"]


async def test_a_failed_query_fails_its_callers_and_no_others() -> None:
    fail = True

    async def query(keys: Sequence[int]) -> Mapping[int, str]:
        if fail:
            raise ConnectionError("no database")
        return dict.fromkeys(keys, "fine")

    loader = BatchLoader(query)
    failed = await asyncio.gather(loader.load(1), loader.load(2), return_exceptions=True)
    assert all(isinstance(error, ConnectionError) for error in failed)
    fail = False
    assert await loader.load(1) == "fine"


async def test_a_cancelled_caller_does_not_affect_others() -> None:
    table = FakeTable()
    table.rows = {1: "one"}
    table.unblocked.clear()
    loader = BatchLoader(table.query)
    cancelled, remaining = asyncio.create_task(loader.load(1)), asyncio.create_task(loader.load(1))
    await asyncio.sleep(0.01)
    cancelled.cancel()
    await asyncio.sleep(0.01)
    table.unblocked.set()
    assert await remaining == "one"
    assert cancelled.cancelled()


async def test_many_keys_are_split() -> None:
    table = FakeTable()
    table.rows = {number: str(number) for number in range(2 * MAX_KEYS)}
    loader = BatchLoader(table.query)
    assert len(await asyncio.gather(*(loader.load(number) for number in range(2 * MAX_KEYS)))) == 2 * MAX_KEYS
    assert [len(keys) for keys in table.queries] == [MAX_KEYS, MAX_KEYS]

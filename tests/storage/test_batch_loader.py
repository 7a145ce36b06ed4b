"""Look-ups that come together are one query, and none is older than its question."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import pytest

from storage.batch_loader import MOST, Batched

pytestmark = pytest.mark.anyio


class Table:
    """Counts its queries; each takes as long as it is told."""

    def __init__(self) -> None:
        self.rows: dict[int, str] = {}
        self.queries: list[list[int]] = []
        self.open = asyncio.Event()
        self.open.set()

    async def query(self, keys: Sequence[int]) -> Mapping[int, str]:
        self.queries.append(list(keys))
        found = {key: self.rows[key] for key in keys if key in self.rows}
        await self.open.wait()
        return found


async def test_what_is_asked_for_while_a_query_runs_goes_into_the_next() -> None:
    table = Table()
    table.rows = {number: str(number) for number in range(10)}
    table.open.clear()
    lookups = Batched(table.query)
    asked = [asyncio.create_task(lookups.get(number)) for number in (0, 1)]
    await asyncio.sleep(0.01)
    asked += [asyncio.create_task(lookups.get(number)) for number in (2, 3, 3, 99)]
    await asyncio.sleep(0.01)
    table.open.set()
    assert await asyncio.gather(*asked) == ["0", "1", "2", "3", "3", None]
    assert table.queries == [[0, 1], [2, 3, 99]]


async def test_an_answer_is_never_older_than_its_question() -> None:
    table = Table()
    table.rows = {1: "old"}
    table.open.clear()
    lookups = Batched(table.query)
    before = asyncio.create_task(lookups.get(1))
    await asyncio.sleep(0.01)
    table.rows = {1: "new"}
    after = asyncio.create_task(lookups.get(1))
    await asyncio.sleep(0.01)
    table.open.set()
    assert [await before, await after] == ["old", "new"]


async def test_a_failed_query_fails_its_askers_and_no_others() -> None:
    fail = True

    async def query(keys: Sequence[int]) -> Mapping[int, str]:
        if fail:
            raise ConnectionError("no database")
        return dict.fromkeys(keys, "fine")

    lookups = Batched(query)
    failed = await asyncio.gather(lookups.get(1), lookups.get(2), return_exceptions=True)
    assert all(isinstance(error, ConnectionError) for error in failed)
    fail = False
    assert await lookups.get(1) == "fine"


async def test_one_who_leaves_takes_nothing_from_the_others() -> None:
    table = Table()
    table.rows = {1: "one"}
    table.open.clear()
    lookups = Batched(table.query)
    leaver, stayer = asyncio.create_task(lookups.get(1)), asyncio.create_task(lookups.get(1))
    await asyncio.sleep(0.01)
    leaver.cancel()
    await asyncio.sleep(0.01)
    table.open.set()
    assert await stayer == "one"
    assert leaver.cancelled()


async def test_a_crowd_is_split() -> None:
    table = Table()
    table.rows = {number: str(number) for number in range(2 * MOST)}
    lookups = Batched(table.query)
    assert len(await asyncio.gather(*(lookups.get(number) for number in range(2 * MOST)))) == 2 * MOST
    assert [len(keys) for keys in table.queries] == [MOST, MOST]

"""Heartbeats renew a lease, report requests, and stop a worker before another may claim its
task."""

from __future__ import annotations

import asyncio
import sqlite3
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import event, make_url, update
from sqlmodel import col

from jobs.lifecycle import lease as leases
from jobs.lifecycle import pause, transitions
from jobs.lifecycle.lease import maintain_lease, run_heartbeats
from jobs.lifecycle.states import CANCELLED, QUEUED
from jobs.lifecycle.transitions import Claim, LeaseLost
from storage.db import Database, connect
from storage.errors import StorageUnavailable
from storage.tables import Job
from tests.jobs.conftest import MakeJob

pytestmark = [pytest.mark.anyio, pytest.mark.integration]

LEASE_SECONDS = 0.6
"""Three heartbeats, 0.2 seconds apart."""
Outcome = type[Exception] | None


class Beats:
    """Heartbeats with given outcomes, one after the other. The last outcome is repeated."""

    def __init__(self, *outcomes: Outcome, seconds: float = 0.0) -> None:
        self.outcomes = outcomes
        self.seconds = seconds
        self.times: list[float] = []

    async def beat(self) -> None:
        outcome = self.outcomes[min(len(self.times), len(self.outcomes) - 1)]
        self.times.append(time.monotonic())
        await asyncio.sleep(self.seconds)
        if outcome:
            raise outcome("no answer")


async def measure_until_lost(beats: Beats, lease_seconds: float, match: str) -> float:
    """Return the seconds until the heartbeats raise ``LeaseLost``."""
    started_at = time.monotonic()
    with pytest.raises(LeaseLost, match=match):
        async with asyncio.timeout(10):
            await run_heartbeats(beats.beat, lease_seconds, "batch_1")
    return time.monotonic() - started_at


async def test_a_heartbeat_follows_every_third_of_the_lease() -> None:
    beats = Beats(None, None, None, LeaseLost)
    await measure_until_lost(beats, 0.3, "no answer")
    assert len(beats.times) == 4
    gaps = [after - before for before, after in zip(beats.times, beats.times[1:], strict=False)]
    assert 0.09 < min(gaps) < 0.14


async def test_a_long_lease_has_frequent_heartbeats(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "MAX_HEARTBEAT_SECONDS", 0.05)
    beats = Beats(None, None, LeaseLost)
    assert await measure_until_lost(beats, 600.0, "no answer") < 5
    assert len(beats.times) == 3


async def test_a_lost_lease_ends_the_heartbeats_at_once() -> None:
    beats = Beats(LeaseLost)
    await measure_until_lost(beats, 0.15, "no answer")
    await asyncio.sleep(0.2)
    assert len(beats.times) == 1


async def test_an_outage_of_two_thirds_of_the_lease_loses_it() -> None:
    beats = Beats(StorageUnavailable)
    seconds = await measure_until_lost(beats, LEASE_SECONDS, "batch_1: no heartbeat succeeded")
    assert 2 / 3 * LEASE_SECONDS < seconds < 4 / 3 * LEASE_SECONDS
    assert len(beats.times) in {2, 3}


async def test_every_successful_heartbeat_ends_an_outage() -> None:
    outcomes: list[Outcome] = [StorageUnavailable, None] * 3
    beats = Beats(*outcomes, LeaseLost)
    seconds = await measure_until_lost(beats, LEASE_SECONDS, "no answer")
    assert seconds > 2 * LEASE_SECONDS
    assert len(beats.times) == 7


async def test_the_lease_counts_from_the_start_of_a_heartbeat() -> None:
    """The database renewed the lease at an unknown time during a slow heartbeat."""
    beats = Beats(None, StorageUnavailable, seconds=LEASE_SECONDS / 4)
    await measure_until_lost(beats, LEASE_SECONDS, "no heartbeat succeeded")
    assert len(beats.times) == 2, "counted from the end of the first heartbeat"


async def test_other_errors_of_a_heartbeat_are_raised() -> None:
    with pytest.raises(ZeroDivisionError):
        await run_heartbeats(Beats(ZeroDivisionError).beat, 0.15, "batch_1")


async def claim_running_job(db: Database, make_job: MakeJob, lease_seconds: float = LEASE_SECONDS) -> Claim:
    job = await make_job()
    async with db.write() as session:
        await session.execute(update(Job).where(col(Job.id) == job.id).values(state=QUEUED))
    async with db.write() as session:
        claimed = await transitions.claim(session, "train", "w", lease_seconds)
    assert claimed is not None
    assert claimed[0].job_id == job.id
    return claimed[0]


async def get_lease_end(db: Database, claim: Claim) -> float:
    async with db.read() as session:
        lease_until = (await session.get_one(Job, claim.job_id)).lease_until
    assert lease_until is not None
    return lease_until


async def reap(db: Database) -> list[str]:
    async with db.write() as session:
        return [job.id for job in await transitions.reap(session)]


async def wait_until(condition: Callable[[], Awaitable[bool]], timeout_seconds: float = 10.0) -> None:
    deadline = time.monotonic() + timeout_seconds
    while not await condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


async def wait_for_event(changed: asyncio.Event) -> None:
    async with asyncio.timeout(10):
        await changed.wait()


async def test_the_lease_is_renewed_while_the_body_runs(db: Database, make_job: MakeJob) -> None:
    held = await claim_running_job(db, make_job)
    first_end = await get_lease_end(db, held)
    async with maintain_lease(db, held, LEASE_SECONDS) as lease:
        for _ in range(3):
            await asyncio.sleep(LEASE_SECONDS / 2)
            assert await reap(db) == []
        last_end = await get_lease_end(db, held)
    assert last_end > first_end + LEASE_SECONDS / 2
    assert (lease.lost, lease.cancelled, lease.ended_event.is_set()) == (False, False, False)
    assert not lease.pause_event.is_set()


@pytest.mark.parametrize("fails", [False, True])
async def test_the_heartbeats_end_with_the_body(db: Database, make_job: MakeJob, fails: bool) -> None:
    held = await claim_running_job(db, make_job, 0.3)
    tasks = asyncio.all_tasks()

    async def run_body() -> None:
        async with maintain_lease(db, held, 0.3):
            assert len(asyncio.all_tasks() - tasks) > 0
            await asyncio.sleep(0.15)
            if fails:
                raise ZeroDivisionError

    try:
        await run_body()
    except ZeroDivisionError:
        assert fails
    assert asyncio.all_tasks() - tasks == set()

    async def is_reaped() -> bool:
        return await reap(db) == [held.job_id]

    await wait_until(is_reaped)


async def test_a_worker_learns_of_a_cancel(db: Database, make_job: MakeJob, project_id: str) -> None:
    held = await claim_running_job(db, make_job)
    async with maintain_lease(db, held, LEASE_SECONDS) as lease:
        async with db.write() as session:
            await transitions.cancel(session, project_id, held.job_id)
        await wait_for_event(lease.ended_event)
        assert (lease.cancelled, lease.lost, lease.pause_event.is_set()) == (True, False, False)
        async with db.write() as session:
            ended = await transitions.transition(session, held, CANCELLED, [])
    assert ended.state == CANCELLED


async def test_a_worker_learns_of_a_pause_and_then_of_a_cancel(
    db: Database, make_job: MakeJob, project_id: str
) -> None:
    held = await claim_running_job(db, make_job)
    async with maintain_lease(db, held, LEASE_SECONDS) as lease:
        async with db.write() as session:
            await pause.pause(session, project_id, held.job_id)
        await wait_for_event(lease.pause_event)
        assert (lease.cancelled, lease.lost, lease.ended_event.is_set()) == (False, False, False)
        async with db.write() as session:
            await transitions.cancel(session, project_id, held.job_id)
        await wait_for_event(lease.ended_event)
    assert (lease.cancelled, lease.lost) == (True, False)


async def test_a_claim_of_another_worker_loses_the_lease(
    db: Database, make_job: MakeJob, caplog: pytest.LogCaptureFixture
) -> None:
    held = await claim_running_job(db, make_job)
    async with maintain_lease(db, held, LEASE_SECONDS) as lease:
        async with db.write() as session:
            await session.execute(update(Job).values(lease_until=0.0))
        assert await reap(db) == [held.job_id]
        async with db.write() as session:
            new = await transitions.claim(session, "train", "other", 30.0)
        assert new is not None
        new_end = await get_lease_end(db, new[0])
        await wait_for_event(lease.ended_event)
        await asyncio.sleep(LEASE_SECONDS / 2)
        assert await get_lease_end(db, new[0]) == new_end
    assert (lease.lost, lease.cancelled) == (True, False)
    assert f"{held.job_id} attempt 1" in caplog.text


@asynccontextmanager
async def lock_sqlite(path: str) -> AsyncIterator[None]:
    """Hold the write lock of a SQLite database."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield


class PostgresProxy:
    """Forwards a Unix socket to Postgres until an outage."""

    def __init__(self, folder: Path, target: Path) -> None:
        self.socket = folder / ".s.PGSQL.5432"
        self.target = target / ".s.PGSQL.5432"
        self._writers: list[asyncio.StreamWriter] = []
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        self._server = await asyncio.start_unix_server(self._forward, self.socket)

    async def stop(self) -> None:
        assert self._server
        self._server.close()
        self.socket.unlink(missing_ok=True)
        for writer in self._writers:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()
        self._writers.clear()

    @asynccontextmanager
    async def interrupt(self) -> AsyncIterator[None]:
        await self.stop()
        yield
        await self.start()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_unix_connection(self.target)
        self._writers += [writer, server_writer]
        await asyncio.gather(self._copy(reader, server_writer), self._copy(server_reader, writer))

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(1 << 16):
                writer.write(data)
                await writer.drain()
        writer.close()


@dataclass
class FragileDatabase:
    """A database with outages: SQLite with another process's lock, Postgres without its socket."""

    db: Database
    interrupt: Callable[[], AbstractAsyncContextManager[None]]


def shorten_busy_timeout(connection: sqlite3.Connection, record: object, proxy: object) -> None:
    connection.execute("PRAGMA busy_timeout = 20")


@pytest.fixture
async def fragile(database_url: str) -> AsyncIterator[FragileDatabase]:
    url = make_url(database_url)
    if url.get_backend_name() == "sqlite":
        db = connect(database_url)
        event.listen(db.engine.sync_engine, "checkout", shorten_busy_timeout)
        yield FragileDatabase(db, lambda: lock_sqlite(str(url.database)))
        await db.close()
        return
    with tempfile.TemporaryDirectory(prefix="pg") as folder:
        proxy = PostgresProxy(Path(folder), Path(str(url.query["host"])))
        await proxy.start()
        db = connect(database_url.replace(str(url.query["host"]), folder))
        yield FragileDatabase(db, proxy.interrupt)
        await db.close()
        await proxy.stop()


async def test_a_short_outage_does_not_lose_the_lease(
    db: Database, make_job: MakeJob, fragile: FragileDatabase
) -> None:
    held = await claim_running_job(db, make_job)
    async with maintain_lease(fragile.db, held, LEASE_SECONDS) as lease:
        async with fragile.interrupt():
            with pytest.raises(StorageUnavailable):
                async with fragile.db.write() as session:
                    await transitions.heartbeat(session, held, LEASE_SECONDS)
            await asyncio.sleep(LEASE_SECONDS * 0.4)
        end_after_outage = await get_lease_end(db, held)

        async def is_renewed() -> bool:
            return await get_lease_end(db, held) > end_after_outage

        await wait_until(is_renewed)
    assert (lease.lost, lease.ended_event.is_set()) == (False, False)


async def test_a_long_outage_loses_the_lease(db: Database, make_job: MakeJob, fragile: FragileDatabase) -> None:
    held = await claim_running_job(db, make_job)
    async with maintain_lease(fragile.db, held, LEASE_SECONDS) as lease:
        async with fragile.interrupt():
            await wait_for_event(lease.ended_event)
        assert (lease.lost, lease.cancelled) == (True, False)
        end = await get_lease_end(db, held)
        await asyncio.sleep(LEASE_SECONDS / 2)
        assert await get_lease_end(db, held) == end, "renewed after it was reported as lost"

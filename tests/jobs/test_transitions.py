"""State machine of jobs, on both databases: allowed transitions, claims and races."""

from __future__ import annotations

import asyncio
import random

import pytest
from sqlalchemy import select, update
from sqlmodel import col

from jobs.lifecycle import transitions
from jobs.lifecycle.states import (
    CANCELLED,
    FAILED,
    QUEUED,
    RUNNING,
    SUCCEEDED,
    TERMINAL,
    TRANSITIONS,
    VALIDATING,
    WIRE_STATUS,
    to_wire_state,
)
from jobs.lifecycle.transitions import Claim, IllegalTransition, LeaseLost, NewEvent, Phase
from storage.access import keys
from storage.db import Database
from storage.tables import Event, Job
from tests.jobs.conftest import MakeJob

pytestmark = [pytest.mark.anyio, pytest.mark.integration]
LEASE_SECONDS = 30.0


async def claim(
    db: Database, phase: Phase = "train", lease: float = LEASE_SECONDS, worker: str = "w"
) -> tuple[Claim, Job] | None:
    async with db.write() as session:
        return await transitions.claim(session, phase, worker, lease)


async def claim_or_fail(db: Database, phase: Phase = "train", lease: float = LEASE_SECONDS) -> Claim:
    claimed = await claim(db, phase, lease)
    assert claimed is not None
    return claimed[0]


async def get_job(db: Database, job_id: str) -> Job:
    async with db.read() as session:
        return await session.get_one(Job, job_id)


async def list_events(db: Database, job_id: str) -> list[Event]:
    async with db.read() as session:
        query = select(Event).where(col(Event.job_id) == job_id).order_by(col(Event.seq))
        return list((await session.execute(query)).scalars())


async def queue_next_job(db: Database) -> None:
    held = await claim_or_fail(db, "validate")
    async with db.write() as session:
        await transitions.transition(session, held, QUEUED, [NewEvent("validated")])


async def test_a_job_runs_from_upload_to_success(db: Database, make_job: MakeJob) -> None:
    job = await make_job()
    assert (job.state, job.attempt) == (VALIDATING, 0)
    await queue_next_job(db)
    held = await claim_or_fail(db)
    assert (held.job_id, held.attempt) == (job.id, 1)
    async with db.write() as session:
        await transitions.append_events(session, held, [NewEvent("a"), NewEvent("b")], progress={"step": 1})
        await transitions.transition(session, held, SUCCEEDED, [NewEvent("done")], fine_tuned_model="ft:x")
    done = await get_job(db, job.id)
    assert (done.state, done.owner, done.fine_tuned_model, done.progress) == (SUCCEEDED, None, "ft:x", {"step": 1})
    assert done.finished_at is not None
    events = await list_events(db, job.id)
    assert [event.seq for event in events] == [1, 2, 3, 4, 5]
    assert [event.message for event in events][1:] == ["validated", "a", "b", "done"]


async def test_a_job_is_claimed_once(db: Database, make_job: MakeJob) -> None:
    ids = {(await make_job()).id for _ in range(10)}
    results = await asyncio.gather(*(claim(db, "validate", worker=str(number)) for number in range(25)))
    claimed_ids = [result[0].job_id for result in results if result]
    assert sorted(claimed_ids) == sorted(ids)


async def test_the_project_with_fewer_running_jobs_comes_first(db: Database, make_job: MakeJob) -> None:
    async with db.write() as session:
        other = (await keys.create_project(session, "other")).id
    for number in range(3):
        await make_job(id=f"greedy{number}")
    await make_job(id="modest", project_id=other)
    for _ in range(4):
        await queue_next_job(db)
    order = [(await claim_or_fail(db)).job_id for _ in range(4)]
    assert order == ["greedy0", "modest", "greedy1", "greedy2"]


async def test_a_claim_without_heartbeat_is_lost_to_the_reaper(db: Database, make_job: MakeJob) -> None:
    job = await make_job()
    await queue_next_job(db)
    late = await claim_or_fail(db, lease=0.05)
    await asyncio.sleep(0.1)
    async with db.write() as session:
        assert [reaped.id for reaped in await transitions.reap(session)] == [job.id]
    async with db.write() as session:
        assert await transitions.reap(session) == []
    assert (await get_job(db, job.id)).state == QUEUED
    new = await claim_or_fail(db)
    assert new.attempt == 2

    for write in (
        lambda s: transitions.heartbeat(s, late, LEASE_SECONDS),
        lambda s: transitions.append_events(s, late, [NewEvent("ghost")]),
        lambda s: transitions.transition(s, late, SUCCEEDED, []),
        lambda s: transitions.fail(s, late, {"code": "x", "message": "y", "param": None}),
        lambda s: transitions.crash(s, late, {"code": "x", "message": "y", "param": None}, 3),
    ):
        with pytest.raises(LeaseLost):
            async with db.write() as session:
                await write(session)
    assert "ghost" not in [event.message for event in await list_events(db, job.id)]
    assert (await get_job(db, job.id)).failures == 0


async def test_a_heartbeat_keeps_the_claim(db: Database, make_job: MakeJob) -> None:
    await make_job()
    await queue_next_job(db)
    held = await claim_or_fail(db, lease=0.2)
    for _ in range(4):
        await asyncio.sleep(0.08)
        async with db.write() as session:
            assert not (await transitions.heartbeat(session, held, 0.2)).cancel_requested
            assert await transitions.reap(session) == []


async def test_the_same_attempt_of_another_owner_has_no_lease(db: Database, make_job: MakeJob) -> None:
    """Validation does not count attempts, so only the owner differs between two claims."""
    job = await make_job()
    late = await claim_or_fail(db, "validate", lease=0.05)
    await asyncio.sleep(0.1)
    new = await claim_or_fail(db, "validate")
    assert (late.attempt, new.attempt, job.id) == (0, 0, new.job_id)
    with pytest.raises(LeaseLost):
        async with db.write() as session:
            await transitions.transition(session, late, QUEUED, [])


@pytest.mark.parametrize("phase", ["validate", "train"])
async def test_crashes_are_retried_with_a_pause_and_end_at_the_limit(
    db: Database, make_job: MakeJob, phase: Phase
) -> None:
    job = await make_job()
    if phase == "train":
        await queue_next_job(db)
    error = {"code": "crash_loop", "message": "It died.", "param": None}
    for _ in range(2):
        held = await claim_or_fail(db, phase)
        async with db.write() as session:
            await transitions.crash(session, held, error, max_failures=3)
        assert await claim(db, phase) is None, "claimed before its delay ended"
        async with db.write() as session:
            await session.execute(update(Job).values(run_after=0.0))
    held = await claim_or_fail(db, phase)
    async with db.write() as session:
        await transitions.crash(session, held, error, max_failures=3)
    failed = await get_job(db, job.id)
    assert failed.state == FAILED
    assert failed.error is not None
    assert failed.error["code"] == "crash_loop"
    assert "3 times" in failed.error["message"]


async def test_a_waiting_job_is_cancelled_immediately_and_never_claimed(
    db: Database, make_job: MakeJob, project_id: str
) -> None:
    for prepare in (False, True):
        job = await make_job()
        if prepare:
            await queue_next_job(db)
        async with db.write() as session:
            cancelled = await transitions.cancel(session, project_id, job.id)
        assert cancelled is not None
        assert cancelled.state == CANCELLED
        assert await claim(db, "validate") is None
        assert await claim(db, "train") is None


async def test_a_job_is_cancelled_while_its_file_is_read(db: Database, make_job: MakeJob, project_id: str) -> None:
    job = await make_job()
    held = await claim_or_fail(db, "validate")
    async with db.write() as session:
        await transitions.cancel(session, project_id, job.id)
    with pytest.raises(LeaseLost):
        async with db.write() as session:
            await transitions.transition(session, held, QUEUED, [])
    assert (await get_job(db, job.id)).state == CANCELLED


async def test_a_running_job_is_notified_of_its_cancel_and_cannot_succeed(
    db: Database, make_job: MakeJob, project_id: str
) -> None:
    job = await make_job()
    await queue_next_job(db)
    held = await claim_or_fail(db)
    async with db.write() as session:
        running = await transitions.cancel(session, project_id, job.id)
    assert running is not None
    assert (running.state, to_wire_state(running)) == (RUNNING, "cancelling")
    async with db.write() as session:
        assert (await transitions.heartbeat(session, held, LEASE_SECONDS)).cancel_requested
    with pytest.raises(LeaseLost):
        async with db.write() as session:
            await transitions.transition(session, held, SUCCEEDED, [], fine_tuned_model="ft:x")
    async with db.write() as session:
        await transitions.transition(session, held, CANCELLED, [NewEvent("cancelled")])
    ended = await get_job(db, job.id)
    assert (ended.state, ended.fine_tuned_model) == (CANCELLED, None)


async def test_a_cancel_of_a_dead_workers_job_is_finished_by_the_reaper(
    db: Database, make_job: MakeJob, project_id: str
) -> None:
    job = await make_job()
    await queue_next_job(db)
    await claim_or_fail(db, lease=0.05)
    async with db.write() as session:
        await transitions.cancel(session, project_id, job.id)
    await asyncio.sleep(0.1)
    async with db.write() as session:
        await transitions.reap(session)
    assert (await get_job(db, job.id)).state == CANCELLED


async def test_cancel_knows_its_project_and_its_states(db: Database, make_job: MakeJob, project_id: str) -> None:
    job = await make_job()
    async with db.write() as session:
        assert await transitions.cancel(session, "proj_other", job.id) is None
        assert await transitions.cancel(session, project_id, "ftjob-none") is None
        await transitions.cancel(session, project_id, job.id)
    with pytest.raises(IllegalTransition, match="cancelled"):
        async with db.write() as session:
            await transitions.cancel(session, project_id, job.id)


async def test_cancel_against_finish_has_one_winner(db: Database, make_job: MakeJob, project_id: str) -> None:
    """In many races, each job ends in exactly one state, and its events agree with it."""
    rng = random.Random(7)

    async def finish(held: Claim) -> str:
        await asyncio.sleep(rng.random() * 0.004)
        try:
            async with db.write() as session:
                await transitions.transition(session, held, SUCCEEDED, [NewEvent("succeeded")])
        except LeaseLost:
            async with db.write() as session:
                await transitions.transition(session, held, CANCELLED, [NewEvent("cancelled")])
            return CANCELLED
        return SUCCEEDED

    async def stop(job_id: str) -> bool:
        await asyncio.sleep(rng.random() * 0.004)
        try:
            async with db.write() as session:
                return await transitions.cancel(session, project_id, job_id) is not None
        except IllegalTransition:
            return False

    wins: dict[str, int] = {SUCCEEDED: 0, CANCELLED: 0}
    for _ in range(40):
        job = await make_job()
        await queue_next_job(db)
        held = await claim_or_fail(db)
        state, accepted = await asyncio.gather(finish(held), stop(job.id))
        assert accepted == (state == CANCELLED)
        assert (await get_job(db, job.id)).state == state
        assert (await list_events(db, job.id))[-1].message == state
        wins[state] += 1
    assert min(wins.values()) > 0, wins


async def test_only_waiting_jobs_are_notified(db: Database, make_job: MakeJob) -> None:
    first, second = await make_job(), await make_job()
    held = await claim_or_fail(db, "validate")
    assert held.job_id == first.id
    async with db.read() as session:
        assert await transitions.list_claimable_jobs(session) == [(second.id, 0)]


async def test_every_event_is_numbered_once_under_load(db: Database, make_job: MakeJob) -> None:
    job = await make_job()
    await queue_next_job(db)
    held = await claim_or_fail(db)

    async def append(number: int) -> None:
        async with db.write() as session:
            await transitions.append_events(session, held, [NewEvent(str(number)), NewEvent("again")])

    await asyncio.gather(*(append(number) for number in range(20)))
    assert [event.seq for event in await list_events(db, job.id)] == list(range(1, 43))


def test_the_graph_is_closed_and_uses_openais_statuses() -> None:
    assert {SUCCEEDED, FAILED, CANCELLED} == TERMINAL
    assert all(after in TRANSITIONS for states in TRANSITIONS.values() for after in states)
    openai_statuses = {"validating_files", "queued", "running", "succeeded", "failed", "cancelled"}
    assert set(WIRE_STATUS.values()) <= openai_statuses
    assert set(WIRE_STATUS) == set(TRANSITIONS)

"""Pause, resume and start of jobs, and queue positions, on both databases."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from sqlalchemy import update
from sqlmodel import col

from jobs.lifecycle import pause, transitions
from jobs.lifecycle.queue_position import QueueEstimator, QueuePosition, estimate_positions, load_positions
from jobs.lifecycle.states import (
    CANCELLED,
    PAUSED,
    QUEUED,
    RUNNING,
    SUCCEEDED,
    VALIDATED,
    VALIDATING,
    WIRE_STATUS,
    to_wire_state,
)
from jobs.lifecycle.transitions import IllegalTransition, LeaseLost, NewEvent
from storage.access import keys
from storage.db import Database
from storage.tables import Job
from tests.jobs.conftest import MakeJob
from tests.jobs.test_transitions import LEASE_SECONDS, claim, claim_or_fail, get_job, list_events, queue_next_job

pytestmark = [pytest.mark.anyio, pytest.mark.integration]
ERROR = {"code": "crash_loop", "message": "It died.", "param": None}


class ProjectClient:
    """Sends requests of one project."""

    def __init__(self, db: Database, project_id: str) -> None:
        self.db, self.project_id = db, project_id

    async def request(self, verb: str, job_id: str) -> Job:
        verbs = {
            "pause": pause.pause,
            "resume": pause.resume,
            "start": pause.start,
            "cancel": transitions.cancel,
        }
        async with self.db.write() as session:
            job = await verbs[verb](session, self.project_id, job_id)
        assert job is not None
        return job


@pytest.fixture
def project_client(db: Database, project_id: str) -> ProjectClient:
    return ProjectClient(db, project_id)


async def start_job(db: Database, make_job: MakeJob, lease: float = LEASE_SECONDS) -> transitions.Claim:
    await make_job()
    await queue_next_job(db)
    return await claim_or_fail(db, lease=lease)


async def test_a_waiting_job_is_paused_immediately_and_returns_to_its_state(
    db: Database, make_job: MakeJob, project_client: ProjectClient
) -> None:
    job = await make_job()
    assert (await project_client.request("pause", job.id)).state == PAUSED
    assert WIRE_STATUS[PAUSED] == "queued"
    assert await claim(db, "validate") is None
    assert (await project_client.request("resume", job.id)).state == VALIDATING
    await queue_next_job(db)
    assert (await project_client.request("pause", job.id)).state == PAUSED
    assert await claim(db) is None
    assert (await project_client.request("resume", job.id)).state == QUEUED
    assert (await claim_or_fail(db)).job_id == job.id
    messages = [event.message for event in await list_events(db, job.id)]
    assert messages.count("The job was paused.") == messages.count("The job was resumed.") == 2


async def test_repeating_a_request_changes_nothing(
    db: Database, make_job: MakeJob, project_client: ProjectClient
) -> None:
    job = await make_job()
    first = await project_client.request("pause", job.id)
    assert (await project_client.request("pause", job.id)).last_seq == first.last_seq
    second = await project_client.request("resume", job.id)
    assert (await project_client.request("resume", job.id)).last_seq == second.last_seq


async def test_a_validating_worker_loses_a_paused_job(
    db: Database, make_job: MakeJob, project_client: ProjectClient
) -> None:
    job = await make_job()
    held = await claim_or_fail(db, "validate")
    await project_client.request("pause", job.id)
    with pytest.raises(LeaseLost):
        async with db.write() as session:
            await transitions.finish_validation(session, held, NewEvent("validated"))
    assert (await get_job(db, job.id)).state == PAUSED


async def test_a_running_job_is_notified_of_its_pause(
    db: Database, make_job: MakeJob, project_client: ProjectClient
) -> None:
    held = await start_job(db, make_job)
    job = await project_client.request("pause", held.job_id)
    assert (job.state, to_wire_state(job)) == (RUNNING, "pausing")
    async with db.write() as session:
        reply = await transitions.heartbeat(session, held, LEASE_SECONDS)
    assert (reply.pause_requested, reply.cancel_requested) == (True, False)
    async with db.write() as session:
        paused = await transitions.transition(session, held, QUEUED, [NewEvent("saved")])
    assert (paused.state, paused.owner, paused.pause_requested) == (PAUSED, None, False)
    assert await claim(db) is None
    assert (await project_client.request("resume", held.job_id)).state == QUEUED
    assert (await claim_or_fail(db)).attempt == 2


async def test_a_pause_can_be_revoked(db: Database, make_job: MakeJob, project_client: ProjectClient) -> None:
    held = await start_job(db, make_job)
    await project_client.request("pause", held.job_id)
    assert to_wire_state(await project_client.request("resume", held.job_id)) == RUNNING
    async with db.write() as session:
        assert not (await transitions.heartbeat(session, held, LEASE_SECONDS)).pause_requested
        assert (await transitions.transition(session, held, QUEUED, [])).state == QUEUED


async def test_a_crash_while_pausing_pauses(db: Database, make_job: MakeJob, project_client: ProjectClient) -> None:
    held = await start_job(db, make_job)
    await project_client.request("pause", held.job_id)
    async with db.write() as session:
        assert (await transitions.crash(session, held, ERROR, max_failures=3)).state == PAUSED


async def test_the_reaper_pauses_the_pausing_job_of_a_lost_worker(
    db: Database, make_job: MakeJob, project_client: ProjectClient
) -> None:
    held = await start_job(db, make_job, lease=0.05)
    await project_client.request("pause", held.job_id)
    await asyncio.sleep(0.1)
    async with db.write() as session:
        [reaped] = await transitions.reap(session)
    assert (reaped.state, reaped.pause_requested) == (PAUSED, False)
    async with db.read() as session:
        assert await transitions.list_claimable_jobs(session) == []


async def test_a_job_that_ends_while_pausing_has_ended(
    db: Database, make_job: MakeJob, project_client: ProjectClient
) -> None:
    held = await start_job(db, make_job)
    await project_client.request("pause", held.job_id)
    async with db.write() as session:
        assert (await transitions.transition(session, held, SUCCEEDED, [])).state == SUCCEEDED
    for verb in ("pause", "resume", "start"):
        with pytest.raises(IllegalTransition, match=SUCCEEDED):
            await project_client.request(verb, held.job_id)


async def test_cancel_comes_before_pause(db: Database, make_job: MakeJob, project_client: ProjectClient) -> None:
    waiting = await make_job()
    await project_client.request("pause", waiting.id)
    assert (await project_client.request("cancel", waiting.id)).state == CANCELLED
    held = await start_job(db, make_job)
    await project_client.request("pause", held.job_id)
    assert to_wire_state(await project_client.request("cancel", held.job_id)) == "cancelling"
    with pytest.raises(IllegalTransition, match="cancelling"):
        await project_client.request("pause", held.job_id)


async def test_another_projects_job_does_not_exist(db: Database, make_job: MakeJob) -> None:
    job = await make_job()
    async with db.write() as session:
        for verb in (pause.pause, pause.resume, pause.start):
            assert await verb(session, "proj_other", job.id) is None
    assert (await get_job(db, job.id)).last_seq == 1


async def test_a_job_waits_to_be_started(db: Database, make_job: MakeJob, project_client: ProjectClient) -> None:
    job = await make_job(auto_start=False)
    held = await claim_or_fail(db, "validate")
    async with db.write() as session:
        assert (await transitions.finish_validation(session, held, NewEvent("validated"))).state == VALIDATED
    assert await claim(db) is None
    assert (await project_client.request("start", job.id)).state == QUEUED
    assert (await project_client.request("start", job.id)).state == QUEUED
    assert (await claim_or_fail(db)).job_id == job.id


async def test_started_before_it_was_validated(db: Database, make_job: MakeJob, project_client: ProjectClient) -> None:
    job = await make_job(auto_start=False)
    assert (await project_client.request("start", job.id)).state == VALIDATING
    held = await claim_or_fail(db, "validate")
    async with db.write() as session:
        assert (await transitions.finish_validation(session, held, NewEvent("validated"))).state == QUEUED


async def test_a_validated_job_that_is_paused_and_started_resumes_in_the_queue(
    db: Database, make_job: MakeJob, project_client: ProjectClient
) -> None:
    job = await make_job(auto_start=False)
    async with db.write() as session:
        await session.execute(update(Job).where(col(Job.id) == job.id).values(state=VALIDATED))
    await project_client.request("pause", job.id)
    assert (await project_client.request("start", job.id)).state == PAUSED
    assert (await project_client.request("resume", job.id)).state == QUEUED


async def test_pause_against_finish_has_one_winner(
    db: Database, make_job: MakeJob, project_client: ProjectClient
) -> None:
    async def release(held: transitions.Claim) -> None:
        async with db.write() as session:
            await transitions.transition(session, held, QUEUED, [NewEvent("left")])

    for _ in range(10):
        held = await start_job(db, make_job)
        await asyncio.gather(release(held), project_client.request("pause", held.job_id))
        assert (await get_job(db, held.job_id)).state == PAUSED


async def test_queue_positions_are_the_order_of_claims(db: Database, make_job: MakeJob) -> None:
    async with db.write() as session:
        other = (await keys.create_project(session, "other")).id
    for number in range(3):
        await make_job(id=f"greedy{number}")
    await make_job(id="modest", project_id=other)
    for _ in range(4):
        await queue_next_job(db)
    assert (await claim_or_fail(db)).job_id == "greedy0"
    async with db.read() as session:
        positions = await load_positions(session)
    assert [(job_id, queue_position.position) for job_id, queue_position in positions.items()] == [
        ("modest", 1),
        ("greedy1", 2),
        ("greedy2", 3),
    ]
    assert (await claim_or_fail(db)).job_id == "modest"


async def test_an_estimate_is_shared_and_a_new_job_is_found(db: Database, make_job: MakeJob) -> None:
    first = await make_job()
    await queue_next_job(db)
    estimator = QueueEstimator(db)
    assert await asyncio.gather(*(estimator.get_position(first.id) for _ in range(5))) == [QueuePosition(1)] * 5
    second = await make_job()
    await queue_next_job(db)
    assert await estimator.get_position(second.id) == QueuePosition(2)
    assert await estimator.get_position("ftjob-none") is None


def test_estimated_start_and_end_of_queued_jobs() -> None:
    running: list[dict[str, Any] | None] = [
        {"eta": 100.0, "tokens_per_second": 50.0},
        {"eta": 10.0, "tokens_per_second": 50.0},
    ]
    queue: list[tuple[str, dict[str, Any] | None]] = [
        ("known", {"eta": None, "tokens": 1000.0}),
        ("resumed", {"eta": 5.0}),
        ("unknown", {"eta": None}),
        ("after", {"eta": 1.0}),
        ("never", {"eta": 1.0}),
    ]
    positions = estimate_positions(queue, running, 1000.0)
    assert positions["known"] == QueuePosition(1, 1010.0, 1030.0)
    assert positions["resumed"] == QueuePosition(2, 1030.0, 1035.0)
    assert positions["unknown"] == QueuePosition(3, 1035.0, None)
    assert positions["after"] == QueuePosition(4, 1100.0, 1101.0)
    assert estimate_positions(queue[:1], [], 0.0) == {"known": QueuePosition(1)}
    assert estimate_positions(queue[:1], [None], 0.0) == {"known": QueuePosition(1)}

"""Retention of checkpoints: lifetimes, deletion of one or several, and protection by live jobs."""

from __future__ import annotations

import asyncio
import time
from typing import Any
from urllib.parse import quote

import openai
import pytest
from sqlalchemy import select, update
from sqlmodel import col

from jobs.lifecycle.states import checkpoint_name
from jobs.resources import open_resources
from jobs.retention import checkpoints as checkpoint_retention
from storage.tables import Checkpoint, Job
from tests.api.stack import Stack
from tests.api.test_errors import assert_error

JOBS_PATH = "/v1/fine_tuning/jobs"
DAY_SECONDS = 86_400


def _insert_job(stack: Stack, *steps: int, **values: Any) -> tuple[Job, dict[int, Checkpoint]]:
    job = stack.insert_job(**{"state": "succeeded", **values})
    checkpoints = {step: stack.insert_checkpoint(job, step) for step in steps}
    for checkpoint in checkpoints.values():
        stack.blobs.put_bytes(f"{checkpoint.prefix}/manifest.json", b"{}")
        stack.blobs.put_bytes(f"{checkpoint.prefix}/model/weights", b"w")
    return job, checkpoints


def _list_steps(stack: Stack, job: Job) -> list[int]:
    return [checkpoint.step_number for checkpoint in stack.get_client().fine_tuning.jobs.checkpoints.list(job.id)][::-1]


def _count_blobs(stack: Stack, checkpoint: Checkpoint) -> int:
    return len(list(stack.blobs.list(checkpoint.prefix)))


def _get_row(stack: Stack, checkpoint: Checkpoint) -> Checkpoint | None:
    async def get(session: Any) -> Checkpoint | None:
        query = select(Checkpoint).where(col(Checkpoint.id) == checkpoint.id)
        row: Checkpoint | None = (await session.execute(query)).scalar_one_or_none()
        return row

    return stack.run_in_session(get)


def _set_expired(stack: Stack, checkpoint: Checkpoint) -> None:
    """Set the checkpoint's expiry to the past."""

    async def expire(session: Any) -> None:
        statement = update(Checkpoint).where(col(Checkpoint.id) == checkpoint.id).values(expires_at=time.time() - 1)
        await session.execute(statement)

    stack.run_in_session(expire)


def _run_expiry(stack: Stack) -> int:
    async def run() -> int:
        async with open_resources(stack.settings) as resources:
            return await checkpoint_retention.expire(resources)

    return asyncio.run(run())


def test_a_lifetime_is_set_and_removed(stack: Stack) -> None:
    job, checkpoints = _insert_job(stack, 5)
    path = f"{JOBS_PATH}/{job.id}/checkpoints/{checkpoints[5].id}"
    with stack.open_http() as http:
        response = http.post(path, json={"ttl_seconds": DAY_SECONDS})
        assert response.status_code == 200, response.text
        assert abs(response.json()["expires_at"] - time.time() - DAY_SECONDS) < 5
        [listed] = http.get(f"{JOBS_PATH}/{job.id}/checkpoints").json()["data"]
        assert listed == response.json()
        assert http.post(path, json={"ttl_seconds": None}).json()["expires_at"] is None


@pytest.mark.parametrize("body", [{}, {"ttl_seconds": 3599}, {"ttl_seconds": 31_536_001}, {"ttl_seconds": "1d"}])
def test_invalid_lifetimes(stack: Stack, body: dict[str, Any]) -> None:
    job, checkpoints = _insert_job(stack, 5)
    with stack.open_http() as http:
        error = assert_error(http.post(f"{JOBS_PATH}/{job.id}/checkpoints/{checkpoints[5].id}", json=body), 400)
        assert error["param"] == "ttl_seconds"


def test_a_job_sets_the_lifetime_of_its_checkpoints(stack: Stack) -> None:
    body = {"model": "starter", "training_file": stack.insert_file().id}
    with stack.open_http() as http:
        job = http.post(JOBS_PATH, json={**body, "checkpoint_ttl_seconds": DAY_SECONDS}).json()
        assert job["checkpoint_ttl_seconds"] == DAY_SECONDS
        assert http.post(JOBS_PATH, json=body).json()["checkpoint_ttl_seconds"] is None
        for ttl in (3599, 31_536_001, True, 3600.5):
            error = assert_error(http.post(JOBS_PATH, json={**body, "checkpoint_ttl_seconds": ttl}), 400)
            assert error["param"] == "checkpoint_ttl_seconds"


def test_expired_is_missing_immediately_and_its_bytes_are_deleted_later(stack: Stack) -> None:
    job, checkpoints = _insert_job(stack, 5, 10)
    name = checkpoint_name(job, 5)
    client = stack.get_client()
    client.models.retrieve(name)
    client.fine_tuning.checkpoints.permissions.create(name, project_ids=[stack.other_tenant.project_id])
    _set_expired(stack, checkpoints[5])
    assert _list_steps(stack, job) == [10]
    for other in (client, stack.as_other_tenant().get_client()):
        with pytest.raises(openai.NotFoundError):
            other.models.retrieve(name)
    with stack.open_http() as http:
        path = f"{JOBS_PATH}/{job.id}/checkpoints/{checkpoints[5].id}"
        assert_error(http.post(path, json={"ttl_seconds": None}), 404)
        assert_error(http.delete(path), 404)
    assert _count_blobs(stack, checkpoints[5]) == 2
    assert _run_expiry(stack) == 1
    assert (
        _get_row(stack, checkpoints[5]),
        _count_blobs(stack, checkpoints[5]),
        _count_blobs(stack, checkpoints[10]),
    ) == (None, 0, 2)
    assert _run_expiry(stack) == 0


def test_deleting_one(stack: Stack) -> None:
    job, checkpoints = _insert_job(stack, 5, 10)
    path = f"{JOBS_PATH}/{job.id}/checkpoints/{checkpoints[5].id}"
    with stack.open_http() as http:
        assert http.delete(path).json() == {
            "id": checkpoints[5].id,
            "object": "fine_tuning.job.checkpoint",
            "deleted": True,
        }
        assert_error(http.delete(path), 404)
        assert_error(http.get(f"/v1/models/{quote(checkpoint_name(job, 5), safe='')}"), 404)
    assert (_list_steps(stack, job), _count_blobs(stack, checkpoints[5]), _count_blobs(stack, checkpoints[10])) == (
        [10],
        0,
        2,
    )


def test_deleting_several_is_all_or_nothing(stack: Stack) -> None:
    job, checkpoints = _insert_job(stack, 5, 10, 15)
    _, other_checkpoints = _insert_job(stack, 5)
    path = f"{JOBS_PATH}/{job.id}/checkpoints:delete"
    with stack.open_http() as http:
        for foreign_id in (other_checkpoints[5].id, "ftckpt_none"):
            assert_error(http.post(path, json={"ids": [checkpoints[5].id, foreign_id]}), 404)
        assert _list_steps(stack, job) == [5, 10, 15]
        response = http.post(path, json={"ids": [checkpoints[15].id, checkpoints[5].id, checkpoints[5].id]}).json()
        assert [deleted["id"] for deleted in response["data"]] == [checkpoints[15].id, checkpoints[5].id]
        assert (response["object"], response["has_more"]) == ("list", False)
        assert _list_steps(stack, job) == [10]


def test_deleting_those_of_earlier_steps(stack: Stack) -> None:
    job, _ = _insert_job(stack, 5, 10, 15)
    with stack.open_http() as http:
        response = http.post(f"{JOBS_PATH}/{job.id}/checkpoints:delete", json={"older_than_step": 15})
        assert len(response.json()["data"]) == 2
        assert http.post(f"{JOBS_PATH}/{job.id}/checkpoints:delete", json={"older_than_step": 5}).json()["data"] == []
    assert _list_steps(stack, job) == [15]


@pytest.mark.parametrize(
    "body", [{}, {"ids": []}, {"ids": ["x"], "older_than_step": 3}, {"older_than_step": 0}, {"older_than": 3}]
)
def test_invalid_selections(stack: Stack, body: dict[str, Any]) -> None:
    job, _ = _insert_job(stack, 5)
    with stack.open_http() as http:
        assert_error(http.post(f"{JOBS_PATH}/{job.id}/checkpoints:delete", json=body), 400)
    assert _list_steps(stack, job) == [5]


def test_the_starting_point_of_a_live_job_stays(stack: Stack) -> None:
    job, checkpoints = _insert_job(stack, 5, 10)
    start = {
        "model": checkpoint_name(job, 5),
        "prefix": checkpoints[5].prefix,
        "manifest_sha256": "0" * 64,
        "part": "model/",
    }
    follower = stack.as_other_tenant().insert_job(starting_point=start, state="running")
    with stack.open_http() as http:
        path = f"{JOBS_PATH}/{job.id}/checkpoints"
        assert assert_error(http.delete(f"{path}/{checkpoints[5].id}"), 400)["code"] == "checkpoint_in_use"
        assert_error(http.post(f"{path}:delete", json={"ids": [checkpoints[10].id, checkpoints[5].id]}), 400)
        assert _list_steps(stack, job) == [5, 10]
        deleted = http.post(f"{path}:delete", json={"older_than_step": 100}).json()["data"]
        assert [checkpoint["id"] for checkpoint in deleted] == [checkpoints[10].id]
    _set_expired(stack, checkpoints[5])
    assert _run_expiry(stack) == 0
    assert _count_blobs(stack, checkpoints[5]) == 2

    async def end(session: Any) -> None:
        await session.execute(update(Job).where(col(Job.id) == follower.id).values(state="succeeded"))

    stack.run_in_session(end)
    assert _run_expiry(stack) == 1
    assert _count_blobs(stack, checkpoints[5]) == 0


def test_a_live_jobs_own_checkpoint_stops_being_a_model_but_can_be_resumed_from(stack: Stack) -> None:
    job, checkpoints = _insert_job(stack, 5, state="running")
    with stack.open_http() as http:
        assert http.delete(f"{JOBS_PATH}/{job.id}/checkpoints/{checkpoints[5].id}").status_code == 200
    assert _list_steps(stack, job) == []
    row = _get_row(stack, checkpoints[5])
    assert row is not None
    assert (row.published, row.expires_at, _count_blobs(stack, checkpoints[5])) == (False, None, 2)


def test_another_projects_job(stack: Stack) -> None:
    job, checkpoints = _insert_job(stack, 5)
    missing = stack.as_other_tenant().insert_job()
    with stack.as_other_tenant().open_http() as http:
        for method, suffix, body in (
            ("POST", f"/{checkpoints[5].id}", {"ttl_seconds": DAY_SECONDS}),
            ("DELETE", f"/{checkpoints[5].id}", None),
            ("POST", ":delete", {"older_than_step": 100}),
        ):
            foreign = http.request(method, f"{JOBS_PATH}/{job.id}/checkpoints{suffix}", json=body)
            unknown = http.request(method, f"{JOBS_PATH}/ftjob-none/checkpoints{suffix}", json=body)
            assert assert_error(foreign, 404) == assert_error(unknown, 404)
        assert_error(http.delete(f"{JOBS_PATH}/{missing.id}/checkpoints/{checkpoints[5].id}"), 404)
    assert _list_steps(stack, job) == [5]

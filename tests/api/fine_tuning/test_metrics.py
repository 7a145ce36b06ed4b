"""Measured steps as JSON, and events as they happen."""

from __future__ import annotations

import json
import threading
import time
from typing import Any

import httpx
import pytest
from sqlalchemy import update
from sqlmodel import col

from storage.tables import Job, Metric
from tests.api.stack import Stack
from tests.api.test_errors import error_of

JOBS = "/v1/fine_tuning/jobs"


def line(step: int) -> dict[str, Any]:
    return {
        "type": "metrics",
        "step": step,
        "total_steps": 100,
        "epoch": step / 10,
        "learning_rate": 0.1,
        "train_loss": 1 / step,
        "train_accuracy": 0.5,
        "valid_loss": None,
        "valid_accuracy": None,
        "general_loss": None,
        "measures": {},
    }


@pytest.fixture(scope="module")
def measured(stack: Stack) -> Job:
    job = stack.job(state="running")
    stack.insert(*(Metric(job_id=job.id, step=step, attempt=1, data=line(step)) for step in range(1, 101)))
    return job


def steps(http: httpx.Client, job: Job, **params: int) -> list[int]:
    return [one["step"] for one in http.get(f"{JOBS}/{job.id}/metrics", params=params).json()["data"]]


def test_the_steps_of_a_job(stack: Stack, measured: Job) -> None:
    with stack.http() as http:
        whole = http.get(f"{JOBS}/{measured.id}/metrics").json()
        assert (len(whole["data"]), whole["has_more"], whole["object"]) == (100, False, "list")
        assert whole["data"][1]["train_loss"] == 0.5
        assert whole["data"][1]["train_mean_token_accuracy"] == 0.5
        assert steps(http, measured, step_from=10, step_to=12) == [10, 11, 12]
        assert steps(http, measured, limit=2, step_from=5) == [5, 6]
        assert http.get(f"{JOBS}/{measured.id}/metrics", params={"limit": 2}).json()["has_more"]
        assert steps(http, measured, resolution=5) == [1, 21, 41, 61, 81, 100]
        assert steps(http, measured, resolution=1000) == list(range(1, 101))
        assert steps(http, measured, resolution=3, step_from=11, step_to=16) == [11, 13, 15, 16]
        assert steps(http, measured, step_from=200, resolution=5) == []


@pytest.mark.parametrize("query", ["limit=0", "limit=10001", "resolution=0", "step_from=-1", "step_to=x"])
def test_bad_questions(stack: Stack, measured: Job, query: str) -> None:
    with stack.http() as http:
        answer = http.get(f"{JOBS}/{measured.id}/metrics?{query}")
    assert error_of(answer, 400)["param"] == query.partition("=")[0]


@pytest.mark.parametrize("path", ["metrics", "metrics/stream", "events/stream"])
def test_another_projects_job(stack: Stack, path: str) -> None:
    foreign = stack.as_theirs().job()
    with stack.http() as http:
        answers = [http.get(f"{JOBS}/{job_id}/{path}") for job_id in (foreign.id, "ftjob-none")]
    assert error_of(answers[0], 404)["param"] == "fine_tuning_job_id"
    assert answers[0].content == answers[1].content


def blocks(text: str) -> list[dict[str, str]]:
    found = [dict(part.split(": ", 1) for part in block.split("\n")) for block in text.strip().split("\n\n")]
    return [block for block in found if "data" in block]


def ended(stack: Stack) -> Job:
    job = stack.job(state="succeeded", last_seq=4)
    stack.event(job, 1)
    for seq in (2, 3):
        stack.event(job, seq, type="metrics", data=line(seq))
    stack.event(job, 4)
    return job


def test_a_stream_ends_with_its_job(stack: Stack) -> None:
    job = ended(stack)
    with stack.http() as http:
        answer = http.get(f"{JOBS}/{job.id}/metrics/stream")
        assert answer.headers["content-type"].startswith("text/event-stream")
        *told, done = blocks(answer.text)
        assert [(block["id"], json.loads(block["data"])["step"]) for block in told] == [("2", 2), ("3", 3)]
        assert (done["event"], json.loads(done["data"])) == ("done", {"status": "succeeded"})
        *every, _ = blocks(http.get(f"{JOBS}/{job.id}/events/stream").text)
        assert [block["id"] for block in every] == ["1", "2", "3", "4"]
        assert json.loads(every[0]["data"])["message"] == "event 1"
        *rest, _ = blocks(http.get(f"{JOBS}/{job.id}/events/stream", headers={"last-event-id": "3"}).text)
        assert [block["id"] for block in rest] == ["4"]
        bad = http.get(f"{JOBS}/{job.id}/events/stream", headers={"last-event-id": "x"})
        assert error_of(bad, 400)["param"] == "Last-Event-ID"


def test_events_arrive_while_they_happen(stack: Stack) -> None:
    """Several followers of a running job; each event reaches all of them, and the end too."""
    job = stack.job(state="running", lease_until=9e9)
    heard: list[list[dict[str, str]]] = [[], []]
    began = threading.Barrier(3)

    def follow(place: int) -> None:
        with stack.http() as http, http.stream("GET", f"{JOBS}/{job.id}/metrics/stream") as answer:
            chunks = answer.iter_text()
            text = next(chunks)
            began.wait(20)
            for chunk in chunks:
                text += chunk
            heard[place] = blocks(text)

    followers = [threading.Thread(target=follow, args=(place,)) for place in range(2)]
    for follower in followers:
        follower.start()
    began.wait(20)
    for seq in (1, 2):
        stack.event(job, seq, type="metrics", data=line(seq))
        _set(stack, job, last_seq=seq)
        time.sleep(0.1)
    _set(stack, job, state="failed")
    for follower in followers:
        follower.join(20)
        assert not follower.is_alive()
    for told in heard:
        assert [block.get("id") for block in told] == ["1", "2", None]
        assert told[-1]["event"] == "done"


def _set(stack: Stack, job: Job, **values: Any) -> None:
    async def write(session: Any) -> None:
        await session.execute(update(Job).where(col(Job.id) == job.id).values(**values))

    stack.session(write)

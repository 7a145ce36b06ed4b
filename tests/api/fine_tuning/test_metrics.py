"""Metrics of steps as JSON, and event streams."""

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
from tests.api.test_errors import assert_error

JOBS_PATH = "/v1/fine_tuning/jobs"


def build_metrics(step: int) -> dict[str, Any]:
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
def job_with_metrics(stack: Stack) -> Job:
    job = stack.insert_job(state="running")
    stack.insert(*(Metric(job_id=job.id, step=step, attempt=1, data=build_metrics(step)) for step in range(1, 101)))
    return job


def list_steps(http: httpx.Client, job: Job, **params: int) -> list[int]:
    return [row["step"] for row in http.get(f"{JOBS_PATH}/{job.id}/metrics", params=params).json()["data"]]


def test_the_steps_of_a_job(stack: Stack, job_with_metrics: Job) -> None:
    with stack.open_http() as http:
        page = http.get(f"{JOBS_PATH}/{job_with_metrics.id}/metrics").json()
        assert (len(page["data"]), page["has_more"], page["object"]) == (100, False, "list")
        assert page["data"][1]["train_loss"] == 0.5
        assert page["data"][1]["train_mean_token_accuracy"] == 0.5
        assert list_steps(http, job_with_metrics, step_from=10, step_to=12) == [10, 11, 12]
        assert list_steps(http, job_with_metrics, limit=2, step_from=5) == [5, 6]
        assert http.get(f"{JOBS_PATH}/{job_with_metrics.id}/metrics", params={"limit": 2}).json()["has_more"]
        assert list_steps(http, job_with_metrics, resolution=5) == [1, 21, 41, 61, 81, 100]
        assert list_steps(http, job_with_metrics, resolution=1000) == list(range(1, 101))
        assert list_steps(http, job_with_metrics, resolution=3, step_from=11, step_to=16) == [11, 13, 15, 16]
        assert list_steps(http, job_with_metrics, step_from=200, resolution=5) == []


@pytest.mark.parametrize("query", ["limit=0", "limit=10001", "resolution=0", "step_from=-1", "step_to=x"])
def test_invalid_queries(stack: Stack, job_with_metrics: Job, query: str) -> None:
    with stack.open_http() as http:
        response = http.get(f"{JOBS_PATH}/{job_with_metrics.id}/metrics?{query}")
    assert assert_error(response, 400)["param"] == query.partition("=")[0]


@pytest.mark.parametrize("path", ["metrics", "metrics/stream", "events/stream"])
def test_another_projects_job(stack: Stack, path: str) -> None:
    foreign = stack.as_other_tenant().insert_job()
    with stack.open_http() as http:
        responses = [http.get(f"{JOBS_PATH}/{job_id}/{path}") for job_id in (foreign.id, "ftjob-none")]
    assert assert_error(responses[0], 404)["param"] == "fine_tuning_job_id"
    assert responses[0].content == responses[1].content


def parse_sse(text: str) -> list[dict[str, str]]:
    blocks = [dict(line.split(": ", 1) for line in block.split("\n")) for block in text.strip().split("\n\n")]
    return [block for block in blocks if "data" in block]


def insert_ended_job(stack: Stack) -> Job:
    job = stack.insert_job(state="succeeded", last_seq=4)
    stack.insert_event(job, 1)
    for seq in (2, 3):
        stack.insert_event(job, seq, type="metrics", data=build_metrics(seq))
    stack.insert_event(job, 4)
    return job


def test_a_stream_ends_with_its_job(stack: Stack) -> None:
    job = insert_ended_job(stack)
    with stack.open_http() as http:
        response = http.get(f"{JOBS_PATH}/{job.id}/metrics/stream")
        assert response.headers["content-type"].startswith("text/event-stream")
        *metrics, done = parse_sse(response.text)
        assert [(block["id"], json.loads(block["data"])["step"]) for block in metrics] == [("2", 2), ("3", 3)]
        assert (done["event"], json.loads(done["data"])) == ("done", {"status": "succeeded"})
        *events, _ = parse_sse(http.get(f"{JOBS_PATH}/{job.id}/events/stream").text)
        assert [block["id"] for block in events] == ["1", "2", "3", "4"]
        assert json.loads(events[0]["data"])["message"] == "event 1"
        *rest, _ = parse_sse(http.get(f"{JOBS_PATH}/{job.id}/events/stream", headers={"last-event-id": "3"}).text)
        assert [block["id"] for block in rest] == ["4"]
        rejected = http.get(f"{JOBS_PATH}/{job.id}/events/stream", headers={"last-event-id": "x"})
        assert assert_error(rejected, 400)["param"] == "Last-Event-ID"


def test_events_arrive_while_they_happen(stack: Stack) -> None:
    """Several clients stream a running job; each receives every event and the end."""
    job = stack.insert_job(state="running", lease_until=9e9)
    received: list[list[dict[str, str]]] = [[], []]
    started = threading.Barrier(3)

    def read_stream(index: int) -> None:
        with stack.open_http() as http, http.stream("GET", f"{JOBS_PATH}/{job.id}/metrics/stream") as response:
            chunks = response.iter_text()
            text = next(chunks)
            started.wait(20)
            for chunk in chunks:
                text += chunk
            received[index] = parse_sse(text)

    threads = [threading.Thread(target=read_stream, args=(index,)) for index in range(2)]
    for thread in threads:
        thread.start()
    started.wait(20)
    for seq in (1, 2):
        stack.insert_event(job, seq, type="metrics", data=build_metrics(seq))
        _update_job(stack, job, last_seq=seq)
        time.sleep(0.1)
    _update_job(stack, job, state="failed")
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()
    for events in received:
        assert [block.get("id") for block in events] == ["1", "2", None]
        assert events[-1]["event"] == "done"


def _update_job(stack: Stack, job: Job, **values: Any) -> None:
    async def write(session: Any) -> None:
        await session.execute(update(Job).where(col(Job.id) == job.id).values(**values))

    stack.run_in_session(write)

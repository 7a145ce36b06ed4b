"""Retrieval and cancellation of jobs: OpenAI's shapes in every state, and complete pagination."""

from __future__ import annotations

import time
from typing import Any

import openai
import pytest

from tests.api.stack import Stack, build_job
from tests.api.test_errors import assert_error

JOBS_PATH = "/v1/fine_tuning/jobs"
STATES = ["validating_files", "queued", "running", "succeeded", "failed", "cancelled"]
PROGRESS = {"step": 3, "total_steps": 10, "epoch": 0.3, "tokens_per_second": 900.0, "eta": 42.0}


@pytest.mark.parametrize("state", STATES)
def test_every_state_has_openais_shape(stack: Stack, state: str) -> None:
    row = stack.insert_job(state=state)
    job = stack.get_client().fine_tuning.jobs.retrieve(row.id)
    assert job.status == state
    assert (job.error, job.result_files) == (None, [])


def test_a_failed_job_reports_its_error(stack: Stack) -> None:
    error = {"code": "invalid_dataset", "message": "Line 3: …", "param": "training_file"}
    row = stack.insert_job(state="failed", error=error, finished_at=time.time())
    job = stack.get_client().fine_tuning.jobs.retrieve(row.id)
    assert job.error is not None
    assert job.error.model_dump() == error
    assert isinstance(job.finished_at, int)


def test_a_running_job_reports_its_progress(stack: Stack) -> None:
    row = stack.insert_job(state="running", progress=PROGRESS, attempt=2, trainable_parameters=1234)
    job = stack.get_client().fine_tuning.jobs.retrieve(row.id)
    assert job.estimated_finish is not None
    assert 40 <= job.estimated_finish - time.time() <= 43
    assert job.model_extra is not None
    assert job.model_extra["progress"] == PROGRESS
    assert (job.model_extra["attempt"], job.model_extra["trainable_parameters"]) == (2, 1234)


@pytest.mark.parametrize(("state", "phase"), [("running", "encoding"), ("queued", None), ("succeeded", None)])
def test_only_a_running_job_has_a_phase(stack: Stack, state: str, phase: str | None) -> None:
    row = stack.insert_job(state=state, progress={**PROGRESS, "phase": "encoding"})
    job = stack.get_client().fine_tuning.jobs.retrieve(row.id)
    assert job.model_extra is not None
    assert job.model_extra["phase"] == phase
    assert job.model_extra["progress"] == PROGRESS


def test_a_succeeded_job_reports_its_model_and_metrics(stack: Stack) -> None:
    proof = {"step": 10, "params_sha256": "a"}
    row = stack.insert_job(
        state="succeeded",
        progress={**PROGRESS, "eta": 0.0},
        fine_tuned_model="ft:starter:luthier::x",
        result_files=["file-1"],
        trained_tokens=99,
        resume_proof=proof,
        final_metrics={"train_loss": 0.5, "valid_loss": None},
        finished_at=time.time(),
    )
    job = stack.get_client().fine_tuning.jobs.retrieve(row.id)
    assert (job.fine_tuned_model, job.result_files, job.trained_tokens) == ("ft:starter:luthier::x", ["file-1"], 99)
    assert job.estimated_finish is None
    assert job.hyperparameters.n_epochs == 3
    assert job.method is not None
    assert job.method.supervised is not None
    hyperparameters = job.method.supervised.hyperparameters
    assert hyperparameters is not None
    assert hyperparameters.model_extra == {"learning_rate": 2e-4}
    assert job.model_extra is not None
    assert job.model_extra["resume_proof"] == proof


def test_paging_over_jobs_with_equal_timestamps(stack: Stack) -> None:
    stack = stack.with_new_project()
    with stack.open_http() as http:
        rows = [build_job(stack.tenant.project_id, created_at=1_800_000_000.25) for _ in range(57)]
        stack.insert(*rows)
        expected = sorted((row.id for row in rows), reverse=True)
        seen: list[str] = []
        after = None
        while len(seen) < len(rows):
            page = http.get(JOBS_PATH, params={"limit": 10, **({"after": after} if after else {})}).json()
            seen += [job["id"] for job in page["data"]]
            after = page["last_id"]
            assert page["first_id"] == page["data"][0]["id"]
    assert seen == expected


def test_the_official_client_pages_to_the_end(stack: Stack) -> None:
    stack = stack.with_new_project()
    rows = [build_job(stack.tenant.project_id, created_at=5.0) for _ in range(45)]
    stack.insert(*rows)
    seen = [job.id for job in stack.get_client().fine_tuning.jobs.list(limit=7)]
    assert seen == sorted((row.id for row in rows), reverse=True)


def test_the_default_page_has_20(stack: Stack) -> None:
    stack = stack.with_new_project()
    stack.insert(*(build_job(stack.tenant.project_id) for _ in range(21)))
    page = stack.get_client().fine_tuning.jobs.list()
    assert (len(page.data), page.has_more) == (20, True)
    assert stack.get_client().fine_tuning.jobs.list(limit=0).data == []


def test_metadata_filter(stack: Stack) -> None:
    stack = stack.with_new_project()
    stack.insert_job(meta={"a b": "c&d", "n": "1"})
    labeled = stack.insert_job(meta={"a b": "c&d", "n": "2", "x.[0]": "y", "für": "ü"})
    unlabeled = stack.insert_job()
    client = stack.get_client()
    assert len(list(client.fine_tuning.jobs.list(metadata={"a b": "c&d"}))) == 2
    assert [job.id for job in client.fine_tuning.jobs.list(metadata={"a b": "c&d", "n": "2"})] == [labeled.id]
    assert [job.id for job in client.fine_tuning.jobs.list(metadata={"x.[0]": "y"})] == [labeled.id]
    assert list(client.fine_tuning.jobs.list(metadata={"a b": "other"})) == []
    assert [job.id for job in client.fine_tuning.jobs.list(metadata={"für": "ü"})] == [labeled.id]
    without = client.fine_tuning.jobs.list(extra_query={"metadata": "null"}).data
    assert unlabeled.id in [job.id for job in without]
    assert labeled.id not in [job.id for job in without]
    assert len(client.fine_tuning.jobs.list(metadata={"a b": "c&d"}, after=unlabeled.id).data) == 2


INVALID_FILTERS = ["=x", "[]=x", '[a"b]=x', "[a\\]=x", "[%0a]=x", "s[a]=1"]


@pytest.mark.parametrize("query", INVALID_FILTERS)
def test_invalid_metadata_filters(stack: Stack, query: str) -> None:
    with stack.open_http() as http:
        assert assert_error(http.get(f"{JOBS_PATH}?metadata{query}"), 400)["param"] == "metadata"


@pytest.mark.parametrize("path", [JOBS_PATH, JOBS_PATH + "/{job}/events", JOBS_PATH + "/{job}/checkpoints"])
def test_unknown_cursors(stack: Stack, path: str) -> None:
    other_stack = stack.as_other_tenant()
    foreign_job = other_stack.insert_job()
    foreign_ids = [
        foreign_job.id,
        other_stack.insert_event(foreign_job, 2).id,
        other_stack.insert_checkpoint(foreign_job, 2).id,
    ]
    url = path.format(job=stack.insert_job().id)
    with stack.open_http() as http:
        responses = [http.get(url, params={"after": after}) for after in ["nothing", *foreign_ids]]
    assert assert_error(responses[0], 400)["param"] == "after"
    assert {response.content for response in responses} == {responses[0].content}


def test_events_newest_first(stack: Stack) -> None:
    job = stack.insert_job()
    stack.insert_event(job, 1)
    stack.insert_event(job, 2, type="metrics", data={"step": 1, "train_loss": 2.0})
    stack.insert_event(job, 3)
    events = stack.get_client().fine_tuning.jobs.list_events(job.id, limit=2)
    assert [event.message for event in events.data] == ["event 3", "event 2"]
    assert events.data[1].data == {"step": 1, "train_loss": 2.0}
    assert [event.message for event in events] == ["event 3", "event 2", "event 1"]
    assert events.data[0].created_at == 1_700_000_000


def test_only_published_checkpoints_are_listed(stack: Stack) -> None:
    job = stack.insert_job(state="running", suffix="s")
    for step in (5, 10, 15):
        stack.insert_checkpoint(job, step, published=step != 10)
    checkpoints = stack.get_client().fine_tuning.jobs.checkpoints.list(job.id).data
    assert [checkpoint.step_number for checkpoint in checkpoints] == [15, 5]
    first = checkpoints[0]
    assert first.fine_tuned_model_checkpoint == f"ft:starter:luthier:s:{job.id[-8:]}:ckpt-step-15"
    assert (first.metrics.step, first.metrics.train_loss, first.fine_tuning_job_id) == (15, 1.5, job.id)
    assert first.metrics.model_extra is not None
    assert first.metrics.model_extra["grad_norm"] == 2.0


def test_checkpoints_page(stack: Stack) -> None:
    job = stack.insert_job(state="running")
    for step in range(12):
        stack.insert_checkpoint(job, step)
    page = stack.get_client().fine_tuning.jobs.checkpoints.list(job.id)
    assert (len(page.data), page.has_more) == (10, True)
    assert [checkpoint.step_number for checkpoint in page] == list(range(11, -1, -1))


@pytest.mark.parametrize(("state", "after"), [("validating_files", "cancelled"), ("queued", "cancelled")])
def test_cancelling_a_waiting_job(stack: Stack, state: str, after: str) -> None:
    client = stack.get_client()
    job = client.fine_tuning.jobs.cancel(stack.insert_job(state=state).id)
    assert job.status == after
    assert job.finished_at is not None
    assert "cancelled" in client.fine_tuning.jobs.list_events(job.id).data[0].message


def test_cancelling_a_running_job_is_left_to_its_worker(stack: Stack) -> None:
    job = stack.get_client().fine_tuning.jobs.cancel(stack.insert_job(state="running", owner="w", lease_until=9e9).id)
    assert job.status == "running"
    assert job.model_extra is not None
    assert job.model_extra["state"] == "cancelling"


@pytest.mark.parametrize("state", ["succeeded", "failed", "cancelled"])
def test_cancelling_an_ended_job_is_not_retried(stack: Stack, state: str) -> None:
    client = stack.get_client(max_retries=2)
    with pytest.raises(openai.BadRequestError, match=state) as caught:
        client.fine_tuning.jobs.cancel(stack.insert_job(state=state).id)
    assert caught.value.response.headers["x-should-retry"] == "false"


def test_cancel_accepts_an_empty_body_of_any_type(stack: Stack) -> None:
    with stack.open_http() as http:
        for headers in ({"content-type": "application/json"}, {}):
            job = stack.insert_job()
            assert http.post(f"{JOBS_PATH}/{job.id}/cancel", headers=headers).json()["status"] == "cancelled"


def _insert_canary_job(stack: Stack) -> Any:
    return stack.insert_job(suffix="canary-of-theirs", meta={"canary": "canary-of-theirs"})


def test_lists_reveal_nothing_of_another_project(stack: Stack) -> None:
    other_stack = stack.as_other_tenant()
    _insert_canary_job(other_stack)
    other_stack.insert_model(suffix="canary-of-theirs")
    other_stack.insert_file()
    with stack.open_http() as http:
        for path in (JOBS_PATH, "/v1/files", "/v1/models", f"{JOBS_PATH}?metadata[canary]=canary-of-theirs"):
            text = http.get(path, params={} if "?" in path or "models" in path else {"limit": 1000}).text
            assert "canary" not in text
            assert other_stack.tenant.project_id not in text

"""Pausing, resuming, starting and cloning jobs; their queue positions and starting points."""

from __future__ import annotations

import time
from typing import Any

import openai
import pytest

from tests.api.stack import Stack
from tests.api.test_errors import assert_error

JOBS_PATH = "/v1/fine_tuning/jobs"


def get_extra_fields(job: Any) -> dict[str, Any]:
    return dict(job.model_extra or {})


def test_pausing_and_resuming(stack: Stack) -> None:
    jobs = stack.get_client().fine_tuning.jobs
    row = stack.insert_job(state="validating_files")
    paused = jobs.pause(row.id)
    assert (paused.status, get_extra_fields(paused)["state"]) == ("queued", "paused")
    assert jobs.pause(row.id) == paused
    assert jobs.retrieve(row.id) == paused
    assert jobs.resume(row.id).status == "validating_files"
    assert jobs.resume(row.id).status == "validating_files"


def test_pausing_a_running_job_is_left_to_its_worker(stack: Stack) -> None:
    job = stack.get_client().fine_tuning.jobs.pause(stack.insert_job(state="running", owner="w", lease_until=9e9).id)
    assert (job.status, get_extra_fields(job)["state"]) == ("running", "pausing")


@pytest.mark.parametrize("verb", ["pause", "resume", "start"])
@pytest.mark.parametrize("state", ["succeeded", "failed", "cancelled"])
def test_ended_jobs_stay_ended(stack: Stack, state: str, verb: str) -> None:
    with stack.open_http() as http:
        response = http.post(f"{JOBS_PATH}/{stack.insert_job(state=state).id}/{verb}")
    assert assert_error(response, 400)["code"] == "invalid_state"
    assert response.headers["x-should-retry"] == "false"


@pytest.mark.parametrize("verb", ["pause", "resume", "start", "clone"])
def test_another_projects_job(stack: Stack, verb: str) -> None:
    foreign = stack.as_other_tenant().insert_job()
    with stack.open_http() as http:
        responses = [http.post(f"{JOBS_PATH}/{job_id}/{verb}") for job_id in (foreign.id, "ftjob-none")]
    assert assert_error(responses[0], 404)["param"] == "fine_tuning_job_id"
    assert responses[0].content == responses[1].content


def test_starting_later(stack: Stack) -> None:
    file = stack.insert_file()
    with stack.open_http() as http:
        body = {"model": "starter", "training_file": file.id, "auto_start": False}
        job = http.post(JOBS_PATH, json=body).json()
        assert (job["auto_start"], job["state"]) == (False, "validating_files")
        assert http.post(f"{JOBS_PATH}/{job['id']}/start").json()["auto_start"] is True
        waiting = stack.insert_job(state="validated", auto_start=False)
        assert http.get(f"{JOBS_PATH}/{waiting.id}").json()["status"] == "queued"
        started = http.post(f"{JOBS_PATH}/{waiting.id}/start", json={}).json()
    assert (started["state"], started["status"]) == ("queued", "queued")


def test_a_clone_changes_only_the_sent_fields(stack: Stack) -> None:
    file = stack.insert_file()
    body: dict[str, Any] = {
        "model": "starter",
        "training_file": file.id,
        "suffix": "first",
        "metadata": {"a": "b"},
        "hyperparameters": {"n_epochs": 2},
        "update": {"type": "lora", "rank": 4},
    }
    with stack.open_http() as http:
        source = http.post(JOBS_PATH, json=body).json()
        clone = http.post(f"{JOBS_PATH}/{source['id']}/clone").json()
        inherited = (
            "model",
            "training_file",
            "metadata",
            "seed",
            "update",
            "method",
            "user_provided_suffix",
            "columns",
        )
        assert clone["id"] != source["id"]
        assert [clone[name] for name in inherited] == [source[name] for name in inherited]
        supervised: dict[str, Any] = {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 5}}}
        changes = {"suffix": None, "seed": 9, "method": supervised, "training_file": stack.insert_file().id}
        changed = http.post(f"{JOBS_PATH}/{clone['id']}/clone", json=changes).json()
        assert (changed["seed"], changed["user_provided_suffix"], changed["metadata"]) == (9, None, {"a": "b"})
        assert changed["hyperparameters"]["n_epochs"] == 5
        assert changed["training_file"] == changes["training_file"]
        unknown_field = http.post(f"{JOBS_PATH}/{clone['id']}/clone", json={"nonsense": 1})
        assert assert_error(unknown_field, 400)["param"] == "nonsense"
        unknown_file = http.post(f"{JOBS_PATH}/{clone['id']}/clone", json={"training_file": "file-none"})
        assert assert_error(unknown_file, 400)["param"] == "training_file"
        for nulls in ({"training_file": None}, {"model": None}):
            # Every job requires these fields, so null means no change.
            unchanged = http.post(f"{JOBS_PATH}/{clone['id']}/clone", json=nulls).json()
            assert [unchanged[name] for name in nulls] == [clone[name] for name in nulls]
        without_request = http.post(f"{JOBS_PATH}/{stack.insert_job().id}/clone")
        assert assert_error(without_request, 400)["code"] == "invalid_state"


def test_continuing_from_a_checkpoint(stack: Stack) -> None:
    file = stack.insert_file()
    source = stack.insert_job(state="running")
    for step in (5, 10):
        stack.insert_checkpoint(source, step)
    model = f"ft:starter:luthier::{source.id[-8:]}"
    with stack.open_http() as http:

        def create(**fields: Any) -> Any:
            return http.post(JOBS_PATH, json={"training_file": file.id, **fields})

        steps = {
            f"{source.id}:5": 5,
            source.id: 10,
            f"{model}:5": 5,
            f"{model}:ckpt-step-10": 10,
        }
        for reference, step in steps.items():
            job = create(from_checkpoint=reference).json()
            assert (job["model"], job["base_model"]) == (f"{model}:ckpt-step-{step}", "starter"), reference
        assert create(from_checkpoint=source.id, model="gpt-4o-mini-2024-07-18").status_code == 200
        assert assert_error(create(from_checkpoint=source.id, model="encoder"), 400)["param"] == "model"
        assert assert_error(create(from_checkpoint="starter"), 400)["param"] == "from_checkpoint"
        assert assert_error(create(), 400)["param"] == "model"
        other_stack = stack.as_other_tenant()
        foreign = other_stack.insert_job(state="running")
        other_stack.insert_checkpoint(foreign, 5)
        missing = [
            f"{foreign.id}:5",
            foreign.id,
            "ftjob-none",
            f"{source.id}:6",
            f"{source.id}:x",
            stack.insert_job().id,
            ":5",
        ]
        responses = [create(from_checkpoint=name) for name in missing]
        assert assert_error(responses[0], 400)["param"] == "from_checkpoint"
        assert {response.content for response in responses} == {responses[0].content}


def test_continuing_from_the_result_of_a_finished_job(stack: Stack) -> None:
    model = stack.insert_model()
    body = {"training_file": stack.insert_file().id, "from_checkpoint": model.job_id}
    with stack.open_http() as http:
        assert http.post(JOBS_PATH, json=body).json()["model"] == model.id


def test_the_queue_position(stack: Stack) -> None:
    stack = stack.with_new_project()
    progress = {"step": 1, "total_steps": 9, "epoch": 0.1, "tokens_per_second": 100.0, "eta": 60.0}
    stack.insert_job(state="running", progress=progress, lease_until=9e9)
    first, second = (stack.insert_job(created_at=float(number)) for number in (1, 2))
    jobs = stack.get_client().fine_tuning.jobs
    positions = [get_extra_fields(jobs.retrieve(job.id))["queue_position"] for job in (first, second)]
    assert positions[1] == positions[0] + 1
    start = get_extra_fields(jobs.retrieve(first.id))["estimated_start"]
    assert start is None or start > time.time() - 5
    assert get_extra_fields(jobs.list(limit=1).data[0])["queue_position"] is None
    assert get_extra_fields(jobs.retrieve(stack.insert_job(state="running").id))["queue_position"] is None


def test_the_official_clients_verbs(stack: Stack) -> None:
    with pytest.raises(openai.NotFoundError):
        stack.get_client().fine_tuning.jobs.pause("ftjob-none")
    with pytest.raises(openai.NotFoundError):
        stack.get_client().fine_tuning.jobs.resume("ftjob-none")

"""Jobs survive killed processes: the result has the same bytes as that of an uninterrupted run."""

from __future__ import annotations

import os
import signal
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from openai import BadRequestError, OpenAI

from jobs.lifecycle.states import SUCCEEDED
from storage.settings import Settings
from tests import services
from tests.stack import Stack, build_chat_rows, build_settings, is_alive, wait_for_job, wait_for_step
from tests.tiny import create_tiny_chat_base
from training.spec import DEVICE_HYPERPARAMETERS

pytestmark = pytest.mark.integration

STEPS = 60
HYPERPARAMETERS = {
    "n_epochs": 15,
    "batch_size": 4,
    "max_steps": STEPS,
    "learning_rate": 0.01,
    "save_every": 10,
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("s")
    # Slow enough that a job is still running when a test acts on it.
    create_tiny_chat_base(home / "tiny", num_layers=6, hidden_size=64)
    (home / "models.toml").write_text(
        '[tiny]\npath = "tiny"\ntasks = ["chat"]\nparameters = 100000\ncontext = 256\nlicense = "none"\n'
    )
    return home


@pytest.fixture(scope="module")
def config(home: Path) -> Settings:
    return build_settings(home)


@pytest.fixture(scope="module")
def stack(config: Settings) -> Iterator[Stack]:
    with services.run_redis(config.home / "run"), Stack(config) as stack:
        stack.prepare()
        stack.start("inference", "worker", "api")
        stack.wait_until_ready()
        yield stack


@pytest.fixture
def client(stack: Stack) -> Iterator[OpenAI]:
    client = stack.wait_until_ready()
    yield client
    client.close()


@pytest.fixture(scope="module")
def training_file(stack: Stack) -> str:
    return stack.wait_until_ready().files.create(file=("rows.jsonl", build_chat_rows(16)), purpose="fine-tune").id


def create_job(client: OpenAI, training_file: str, **options: Any) -> str:
    hyperparameters = {**HYPERPARAMETERS, **options.pop("hyperparameters", {})}
    return client.fine_tuning.jobs.create(
        model="tiny",
        training_file=training_file,
        seed=3,
        method={"type": "supervised", "supervised": {"hyperparameters": hyperparameters}},  # type: ignore[typeddict-item]
        extra_body={"update": {"type": "lora", "rank": 4, "alpha": 8, "dropout": 0.1}, **options},
    ).id


@pytest.fixture(scope="module")
def uninterrupted_hashes(stack: Stack, training_file: str) -> dict[str, str]:
    """Hashes of the result of an uninterrupted run."""
    client = stack.wait_until_ready()
    job = wait_for_job(client, create_job(client, training_file))
    assert job.status == "succeeded", job.error
    return stack.get_result_hashes(job.fine_tuned_model)


def assert_uninterrupted_result(
    stack: Stack, client: OpenAI, job_id: str, expected_hashes: dict[str, str], attempts: int
) -> None:
    """Assert success with the same bytes, no gaps in the events, and one event per step."""
    job = wait_for_job(client, job_id)
    assert job.status == "succeeded", job.error
    assert stack.get_result_hashes(job.fine_tuned_model) == expected_hashes
    row = stack.get_job(job_id)
    assert (row.state, row.attempt) == (SUCCEEDED, attempts)
    events = list(client.fine_tuning.jobs.list_events(job_id, limit=100))
    assert len(events) == row.last_seq
    steps = [event.data["step"] for event in reversed(events) if event.type == "metrics"]  # type: ignore[index]
    assert steps == list(range(1, STEPS + 1))


def test_the_device_that_trains_resolves_what_depends_on_it(stack: Stack, client: OpenAI, training_file: str) -> None:
    """Until training starts they are ``auto``."""
    job_id = create_job(client, training_file, auto_start=False)
    services.wait_for(lambda: get_job_fields(client, job_id)["state"] == "validated", 60)
    before = get_hyperparameters(client, job_id)
    assert {name for name, value in before.items() if value == "auto"} == DEVICE_HYPERPARAMETERS
    client.post(f"/fine_tuning/jobs/{job_id}/start", cast_to=object)
    wait_for_step(client, job_id, 1)
    resolved = get_hyperparameters(client, job_id)
    assert "auto" not in resolved.values()
    assert before.items() - resolved.items() == {(name, "auto") for name in DEVICE_HYPERPARAMETERS}
    assert wait_for_job(client, job_id).status == "succeeded"
    assert get_hyperparameters(client, job_id) == resolved
    messages = [event.message for event in client.fine_tuning.jobs.list_events(job_id, limit=100)]
    [choice] = [message for message in messages if message.startswith("Training on cpu in ")]
    assert "a step takes about" in choice


def test_preflight_estimates_for_the_workers_device(stack: Stack, client: OpenAI, training_file: str) -> None:
    """The worker publishes its device soon after it has started."""

    def has_no_warning() -> bool:
        body = {"model": "tiny", "training_file": training_file}
        report: Any = client.post("/fine_tuning/jobs:preflight", cast_to=object, body=body)
        assert "auto" not in report["hyperparameters"].values()
        return not [warning for warning in report["warnings"] if "reported its device" in warning]

    services.wait_for(has_no_warning, 60)


def get_job_fields(client: OpenAI, job_id: str) -> dict[str, Any]:
    return client.fine_tuning.jobs.retrieve(job_id).model_dump()


def get_hyperparameters(client: OpenAI, job_id: str) -> dict[str, Any]:
    method = get_job_fields(client, job_id)["method"]
    values: dict[str, Any] = method["supervised"]["hyperparameters"]
    return values


def test_an_uninterrupted_job_has_one_attempt_and_a_callable_model(
    stack: Stack, client: OpenAI, config: Settings, training_file: str, uninterrupted_hashes: dict[str, str]
) -> None:
    job_id = create_job(client, training_file)
    job = wait_for_job(client, job_id)
    completion = client.chat.completions.create(
        model=job.fine_tuned_model, messages=[{"role": "user", "content": "say 3"}], temperature=0, max_tokens=8
    )
    assert completion.choices[0].message.content is not None
    assert_uninterrupted_result(stack, client, job_id, uninterrupted_hashes, attempts=1)
    checkpoints = client.fine_tuning.jobs.checkpoints.list(job_id).data
    assert [checkpoint.step_number for checkpoint in checkpoints] == [60, 50, 40, 30, 20, 10]
    # Validation and training of every job with this file use the same entry.
    assert len(list(config.encoded_dir.iterdir())) == 1


def test_a_killed_child_is_resumed(
    stack: Stack, client: OpenAI, training_file: str, uninterrupted_hashes: dict[str, str]
) -> None:
    job_id = create_job(client, training_file)
    wait_for_step(client, job_id, 25)
    [child] = stack.list_training_processes("worker")
    child.kill()
    assert_uninterrupted_result(stack, client, job_id, uninterrupted_hashes, attempts=2)
    messages = [event.message for event in client.fine_tuning.jobs.list_events(job_id, limit=100)]
    assert any("resumed at step" in message for message in messages)


def test_a_killed_worker_is_replaced_and_leaves_no_child(
    stack: Stack, client: OpenAI, training_file: str, uninterrupted_hashes: dict[str, str]
) -> None:
    job_id = create_job(client, training_file)
    wait_for_step(client, job_id, 25)
    [child] = stack.list_training_processes("worker")
    stack.kill("worker")
    services.wait_for(lambda: not is_alive(child.pid), 5)
    stack.start("worker")
    assert_uninterrupted_result(stack, client, job_id, uninterrupted_hashes, attempts=2)


def test_a_frozen_worker_that_comes_back_has_lost_its_lease(
    stack: Stack, client: OpenAI, training_file: str, uninterrupted_hashes: dict[str, str]
) -> None:
    """A second worker takes over from a worker that is stopped past its lease, then continued.

    The only model is the second worker's.
    """
    job_id = create_job(client, training_file)
    wait_for_step(client, job_id, 15)
    frozen = freeze_worker(stack)
    try:
        stack.start("worker2")
        services.wait_for(lambda: stack.get_job(job_id).attempt == 2, 60)
    finally:
        for pid in frozen:
            os.kill(pid, signal.SIGCONT)
    assert_uninterrupted_result(stack, client, job_id, uninterrupted_hashes, attempts=2)
    stack.kill("worker2", signal.SIGTERM)


def freeze_worker(stack: Stack) -> list[int]:
    """Stop the worker and its child, but not during a write, which would block SQLite's writers."""
    pids = [stack.processes["worker"].pid, *(child.pid for child in stack.list_training_processes("worker"))]
    while True:
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        database = sqlite3.connect(stack.settings.home / "luthier.db", timeout=0.2)
        with closing(database), suppress(sqlite3.OperationalError):
            database.execute("BEGIN IMMEDIATE")
            return pids
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
        time.sleep(0.05)


def test_a_stopping_worker_saves_and_releases_the_job(
    stack: Stack, client: OpenAI, training_file: str, uninterrupted_hashes: dict[str, str]
) -> None:
    job_id = create_job(client, training_file)
    wait_for_step(client, job_id, 25)
    stack.kill("worker", signal.SIGTERM)
    row = stack.get_job(job_id)
    assert (row.state, row.failures) == ("queued", 0)
    stack.start("worker")
    assert_uninterrupted_result(stack, client, job_id, uninterrupted_hashes, attempts=2)


def test_cancelling_a_running_job_ends_its_child(stack: Stack, client: OpenAI, training_file: str) -> None:
    job_id = create_job(client, training_file, hyperparameters={"n_epochs": 50, "max_steps": 10_000, "batch_size": 1})
    wait_for_step(client, job_id, 5)
    [child] = stack.list_training_processes("worker")
    requested_at = time.monotonic()
    client.fine_tuning.jobs.cancel(job_id)
    job = wait_for_job(client, job_id, 15)
    assert job.status == "cancelled"
    assert time.monotonic() - requested_at < 10
    services.wait_for(lambda: not is_alive(child.pid), 5)
    assert job.fine_tuned_model is None
    with pytest.raises(BadRequestError):
        client.fine_tuning.jobs.cancel(job_id)


def test_a_file_with_an_invalid_row_fails_the_job_with_its_line(stack: Stack, client: OpenAI) -> None:
    rows = build_chat_rows(5) + b'{"messages": [{"role": "user", "content": "no answer"}]}\n'
    file = client.files.create(file=("rows.jsonl", rows), purpose="fine-tune")
    job = wait_for_job(client, create_job(client, file.id))
    assert job.status == "failed"
    assert job.error.code == "invalid_dataset"
    assert job.error.param == "training_file"
    assert "line 6" in job.error.message


def test_a_poisoned_job_fails_after_three_crashes_and_leaves_others_alone(
    stack: Stack, client: OpenAI, training_file: str, uninterrupted_hashes: dict[str, str]
) -> None:
    job_id = create_job(
        client, training_file, hyperparameters={"n_epochs": 50, "max_steps": 10_000, "save_every": 10_000}
    )
    # Kill before the first save, since a committed checkpoint resets the count of failures.
    killed_pids: set[int] = set()

    def killed_three_times() -> bool:
        for child in stack.list_training_processes("worker"):
            if child.pid not in killed_pids and stack.get_job(job_id).state == "running":
                killed_pids.add(child.pid)
                with suppress(psutil.NoSuchProcess):
                    child.kill()
        return stack.get_job(job_id).state == "failed"

    services.wait_for(killed_three_times, 60)
    failed = client.fine_tuning.jobs.retrieve(job_id)
    assert failed.error is not None
    assert failed.error.code == "crash_loop"
    assert_uninterrupted_result(stack, client, create_job(client, training_file), uninterrupted_hashes, attempts=1)


def test_a_paused_job_frees_its_slot_and_resumes(
    stack: Stack, client: OpenAI, training_file: str, uninterrupted_hashes: dict[str, str]
) -> None:
    job_id = create_job(client, training_file)
    wait_for_step(client, job_id, 5)
    [child] = stack.list_training_processes("worker")
    # Suspended until the worker has sent the signal, because the run is shorter than a heartbeat.
    child.suspend()
    client.fine_tuning.jobs.pause(job_id)
    services.wait_for(lambda: has_pending_sigterm(child.pid), 15)
    child.resume()
    services.wait_for(lambda: stack.get_job(job_id).state == "paused", 15)
    assert client.fine_tuning.jobs.retrieve(job_id).status == "queued"
    assert (stack.get_job(job_id).failures, stack.get_job(job_id).owner) == (0, None)
    other = create_job(client, training_file)
    assert wait_for_job(client, other).status == "succeeded"
    assert stack.get_job(job_id).state == "paused"
    client.fine_tuning.jobs.resume(job_id)
    assert_uninterrupted_result(stack, client, job_id, uninterrupted_hashes, attempts=2)


def has_pending_sigterm(pid: int) -> bool:
    """Return True if a SIGTERM is pending for the process."""
    [pending] = [line.split()[1] for line in Path(f"/proc/{pid}/status").read_text().splitlines() if "ShdPnd" in line]
    return bool(int(pending, 16) & 1 << (signal.SIGTERM - 1))


def test_losing_all_of_redis_loses_nothing(config: Settings, training_file: str, stack: Stack, client: OpenAI) -> None:
    """Without Redis a job is created and finishes, because the worker polls."""
    for process in _find_redis_servers(config.home):
        process.kill()
    job_id = create_job(client, training_file)
    assert wait_for_job(client, job_id).status == "succeeded"
    assert client.fine_tuning.jobs.retrieve(job_id).finished_at is not None


def _find_redis_servers(home: Path) -> list[Any]:
    return [
        process
        for process in psutil.process_iter(["name", "cmdline"])
        if process.info["name"].startswith("redis-server") and str(home) in " ".join(process.info["cmdline"] or [])
    ]

"""Production stack: Postgres, redis-server, S3 over HTTP, two APIs, two workers, engine on TCP."""

from __future__ import annotations

import csv
import io
import json
import random
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from openai import APIStatusError, AuthenticationError, NotFoundError, OpenAI

from tests import services
from tests.stack import Stack, build_chat_rows, build_settings, find_free_port, wait_for_job, wait_for_step
from tests.tiny import create_tiny_chat_base

pytestmark = pytest.mark.integration

METHOD: Any = {
    "type": "supervised",
    "supervised": {"hyperparameters": {"n_epochs": 15, "batch_size": 4, "learning_rate": 0.01, "save_every": 20}},
}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, postgres: services.Postgres, s3_url: str) -> Iterator[Stack]:
    home = tmp_path_factory.mktemp("p")
    create_tiny_chat_base(home / "tiny")
    (home / "models.toml").write_text(
        '[tiny]\npath = "tiny"\ntasks = ["chat"]\nparameters = 100000\ncontext = 256\nlicense = "none"\n'
    )
    engine = f"http://127.0.0.1:{find_free_port()}"
    with services.run_redis_over_tcp() as redis_url, pytest.MonkeyPatch.context() as patch:
        # MLflow requires this for its file store.
        patch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
        config = build_settings(
            home,
            database_url=postgres.create_database(),
            blob_url=s3_url.replace("/here?", f"/{home.name}?"),
            redis_url=redis_url,
            inference_url=engine,
            inference_token="between-ourselves",
            mlflow_uri=f"file://{home}/mlruns",
        )
        with Stack(config) as stack:
            stack.prepare()
            stack.start("inference", "worker", "worker2", "api", "api2")
            yield stack


@pytest.fixture
def clients(stack: Stack) -> Iterator[tuple[OpenAI, OpenAI]]:
    first, second = stack.wait_until_ready("api"), stack.wait_until_ready("api2")
    yield first, second
    first.close()
    second.close()


def create_job(client: OpenAI, rows: bytes, **options: Any) -> str:
    file = client.files.create(file=("rows.jsonl", rows), purpose="fine-tune")
    update = {"type": "lora", "rank": 4, "alpha": 8, "dropout": 0.1}
    return client.fine_tuning.jobs.create(
        model="tiny", training_file=file.id, seed=3, method=METHOD, extra_body={"update": update, **options}
    ).id


def test_a_job_survives_a_killed_worker_with_the_bytes_of_an_uninterrupted_run(
    stack: Stack, clients: tuple[OpenAI, OpenAI]
) -> None:
    first, second = clients
    rows = build_chat_rows(16)
    uninterrupted = wait_for_job(first, create_job(first, rows))
    assert uninterrupted.status == "succeeded", uninterrupted.error

    job_id = create_job(second, rows)
    wait_for_step(first, job_id, 25)
    victim = next(name for name in ("worker", "worker2") if stack.list_training_processes(name))
    stack.kill(victim)
    job = wait_for_job(first, job_id)
    assert job.status == "succeeded", job.error
    assert stack.get_job(job_id).attempt == 2
    assert stack.get_result_hashes(job.fine_tuned_model) == stack.get_result_hashes(uninterrupted.fine_tuned_model)
    stack.start(victim)

    for client in clients:
        completion = client.chat.completions.create(
            model=job.fine_tuned_model, messages=[{"role": "user", "content": "say 3"}], temperature=0, max_tokens=6
        )
        assert completion.usage is not None
        assert completion.usage.completion_tokens > 0
    assert job.fine_tuned_model in [model.id for model in second.models.list()]


def test_weights_come_from_the_bucket_by_a_signed_url(stack: Stack, clients: tuple[OpenAI, OpenAI]) -> None:
    client = clients[0]
    job = wait_for_job(client, create_job(client, build_chat_rows(8)))
    url = f"{client.base_url}models/{job.fine_tuned_model}/download"
    headers = {"Authorization": f"Bearer {stack.key}"}
    response = httpx.get(url, params={"variant": "adapter"}, headers=headers, timeout=60)
    assert response.status_code in {302, 307}
    weights = httpx.get(response.headers["location"])
    assert weights.content[:2] == b"PK"


def test_another_project_sees_nothing(stack: Stack, clients: tuple[OpenAI, OpenAI]) -> None:
    import asyncio

    client = clients[0]
    job = wait_for_job(client, create_job(client, build_chat_rows(8)))
    other = client.with_options(api_key=asyncio.run(stack.create_key("other")))
    assert other.fine_tuning.jobs.list().data == []
    for call in (
        lambda: other.fine_tuning.jobs.retrieve(job.id),
        lambda: other.files.retrieve(job.training_file),
        lambda: other.models.retrieve(job.fine_tuned_model),
    ):
        with pytest.raises(NotFoundError):
            call()
    with pytest.raises(AuthenticationError):
        client.with_options(api_key="sk-luthier-no").models.list()


def test_metrics_reach_the_files_and_the_service_once_a_step(
    stack: Stack, clients: tuple[OpenAI, OpenAI], tmp_path: Path
) -> None:
    """The CSV file, the event file and MLflow have the same values, and every step once."""
    client = clients[1]
    valid = client.files.create(file=("valid.jsonl", build_chat_rows(4, start=100)), purpose="fine-tune").id
    target = {"type": "mlflow", "mlflow": {"experiment": "metrics", "run_name": "one"}}
    job = wait_for_job(client, create_job(client, build_chat_rows(8), validation_file=valid, integrations=[target]))
    assert job.status == "succeeded", job.error
    steps = list(range(1, 31))

    table, events = (client.files.retrieve(file_id) for file_id in job.result_files)
    assert {table.purpose, events.purpose} == {"fine-tune-results"}
    rows = list(csv.DictReader(io.StringIO(client.files.content(table.id).text)))
    assert [int(row["step"]) for row in rows] == steps
    losses = [float(row["train_loss"]) for row in rows]
    assert losses[-1] < losses[0]
    valid_losses = {int(row["step"]): float(row["valid_loss"]) for row in rows if row["valid_loss"]}
    assert 30 in valid_losses

    path = tmp_path / events.filename
    path.write_bytes(client.files.content(events.id).read())
    assert _read_scalars(path, "train/loss") == pytest.approx(dict(zip(steps, losses, strict=True)))
    assert _read_scalars(path, "valid/loss") == pytest.approx(valid_losses)

    runs = stack.settings.home / "mlruns"
    services.wait_for(lambda: any("status: 3" in meta.read_text() for meta in runs.glob("*/*/meta.yaml")), 60)
    [metric] = runs.glob("*/*/metrics/train/loss")
    sent = [line.split() for line in metric.read_text().splitlines()]
    assert [(int(step), float(loss)) for _, loss, step in sent] == list(zip(steps, losses, strict=True))


def _read_scalars(path: Path, tag: str) -> dict[int, float]:
    """Read step -> value with TensorBoard's own reader."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
        from tensorboard.util import tensor_util

        values = [(event.step, value) for event in EventFileLoader(str(path)).Load() for value in event.summary.value]
        scalars = [(step, float(tensor_util.make_ndarray(value.tensor))) for step, value in values if value.tag == tag]
    assert len(scalars) == len(dict(scalars))
    return dict(scalars)


def test_a_batch_gives_the_same_responses_as_single_requests(stack: Stack, clients: tuple[OpenAI, OpenAI]) -> None:
    """Neither the batch worker nor the engine's batching changes a response or an error."""
    client = clients[0]
    tuned = wait_for_job(client, create_job(client, build_chat_rows(16))).fine_tuned_model
    bodies = [_build_body(n, tuned if n % 2 else "tiny") for n in range(20)]
    bodies[7]["temperature"] = 9
    bodies[12]["messages"][0]["content"] = "too long " * 100
    lines = [
        {"custom_id": f"r{n}", "method": "POST", "url": "/v1/chat/completions", "body": body}
        for n, body in enumerate(bodies)
    ]
    data = "".join(json.dumps(line) + "\n" for line in lines).encode()
    file = client.files.create(file=("batch.jsonl", data), purpose="batch")
    batch = client.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h")
    ended = ("completed", "failed", "expired", "cancelled")
    services.wait_for(lambda: client.batches.retrieve(batch.id).status in ended, 60, 0.2)
    done = client.batches.retrieve(batch.id)
    assert (done.status, done.errors) == ("completed", None)
    counts = done.request_counts
    assert counts is not None
    assert (counts.total, counts.completed, counts.failed) == (20, 18, 2)
    assert done.output_file_id
    assert done.error_file_id
    output, errors = _read_responses(client, done.output_file_id), _read_responses(client, done.error_file_id)
    assert list(errors) == ["r7", "r12"]
    assert list(output) == [f"r{n}" for n in range(20) if n not in (7, 12)]
    for n, body in enumerate(bodies):
        response = (output | errors)[f"r{n}"]
        assert (response["status_code"], _normalize_body(response["body"])) == _send_alone(client, body), body
    assert len({_normalize_body(response["body"]) for response in output.values()}) > 2


def _build_body(n: int, model: str) -> dict[str, Any]:
    # Different lengths, so that the engine has to pad.
    text = f"say {n}" + " please" * (n % 5)
    return {"model": model, "messages": [{"role": "user", "content": text}], "temperature": 0, "max_tokens": 4 + n % 7}


def _read_responses(client: OpenAI, file_id: str) -> dict[str, dict[str, Any]]:
    """Return ``custom_id`` -> response, in the file's order."""
    lines = [json.loads(text) for text in client.files.content(file_id).text.splitlines()]
    assert all(line["error"] is None for line in lines)
    return {line["custom_id"]: line["response"] for line in lines}


def _send_alone(client: OpenAI, body: dict[str, Any]) -> tuple[int, str]:
    try:
        response = client.chat.completions.with_raw_response.create(**body)
    except APIStatusError as error:
        return error.status_code, _normalize_body(error.response.json())
    return response.status_code, _normalize_body(json.loads(response.content))


def _normalize_body(body: dict[str, Any]) -> str:
    """Serialize a body without the fields that are new in every response."""
    return json.dumps({name: value for name, value in body.items() if name not in ("id", "created")}, sort_keys=True)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_many_jobs_survive_many_kills(stack: Stack, clients: tuple[OpenAI, OpenAI]) -> None:
    """Kill working workers 6 times during 8 jobs: no job is lost, and all results are identical."""
    client, rng, rows = clients[0], random.Random(5), build_chat_rows(16)
    jobs = [create_job(client, rows) for _ in range(8)]
    for _ in range(6):
        services.wait_for(lambda: any(stack.list_training_processes(name) for name in ("worker", "worker2")), 120)
        time.sleep(rng.uniform(0.0, 2.0))
        victim = next((name for name in ("worker", "worker2") if stack.list_training_processes(name)), "worker")
        stack.kill(victim)
        stack.start(victim)
    ends = [wait_for_job(client, job_id, 300) for job_id in jobs]
    assert {job.status for job in ends} == {"succeeded"}
    assert len({job.fine_tuned_model for job in ends}) == len(jobs)
    assert len({str(stack.get_result_hashes(str(job.fine_tuned_model))) for job in ends}) == 1

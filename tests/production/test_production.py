"""The production stack, for real: Postgres, redis-server, S3 over HTTP, two APIs, two workers, an engine on TCP."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from openai import AuthenticationError, NotFoundError, OpenAI

from tests import services
from tests.stack import Stack, chat_rows, free_port, settings, wait_job, wait_step
from tests.tiny import tiny_chat_base

METHOD: Any = {
    "type": "supervised",
    "supervised": {"hyperparameters": {"n_epochs": 15, "batch_size": 4, "learning_rate": 0.01, "save_every": 20}},
}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, postgres: services.Postgres, s3_url: str) -> Iterator[Stack]:
    home = tmp_path_factory.mktemp("p")
    tiny_chat_base(home / "tiny")
    (home / "models.toml").write_text(
        '[tiny]\npath = "tiny"\ntasks = ["chat"]\nparameters = 100000\ncontext = 256\nlicense = "none"\n'
    )
    engine = f"http://127.0.0.1:{free_port()}"
    with services.redis_on_a_port() as redis_url:
        config = settings(
            home,
            database_url=postgres.database(),
            blob_url=s3_url.replace("/here?", f"/{home.name}?"),
            redis_url=redis_url,
            inference_url=engine,
            inference_token="between-ourselves",
        )
        with Stack(config) as stack:
            stack.prepare()
            stack.start("inference", "worker", "worker2", "api", "api2")
            yield stack


@pytest.fixture
def clients(stack: Stack) -> Iterator[tuple[OpenAI, OpenAI]]:
    first, second = stack.ready("api"), stack.ready("api2")
    yield first, second
    first.close()
    second.close()


def post(client: OpenAI, rows: bytes) -> str:
    file = client.files.create(file=("rows.jsonl", rows), purpose="fine-tune")
    update = {"type": "lora", "rank": 4, "alpha": 8, "dropout": 0.1}
    return client.fine_tuning.jobs.create(
        model="tiny", training_file=file.id, seed=3, method=METHOD, extra_body={"update": update}
    ).id


def test_a_job_survives_a_killed_worker_with_the_bytes_of_an_unbroken_run(
    stack: Stack, clients: tuple[OpenAI, OpenAI]
) -> None:
    first, second = clients
    rows = chat_rows(16)
    unbroken = wait_job(first, post(first, rows))
    assert unbroken.status == "succeeded", unbroken.error

    job_id = post(second, rows)
    wait_step(first, job_id, 25)
    victim = next(name for name in ("worker", "worker2") if stack.children(name))
    stack.kill(victim)
    job = wait_job(first, job_id)
    assert job.status == "succeeded", job.error
    assert stack.job(job_id).attempt == 2
    assert stack.result_hashes(job.fine_tuned_model) == stack.result_hashes(unbroken.fine_tuned_model)
    stack.start(victim)

    for client in clients:
        answer = client.chat.completions.create(
            model=job.fine_tuned_model, messages=[{"role": "user", "content": "say 3"}], temperature=0, max_tokens=6
        )
        assert answer.usage is not None
        assert answer.usage.completion_tokens > 0
    assert job.fine_tuned_model in [model.id for model in second.models.list()]


def test_weights_come_from_the_bucket_by_a_signed_url(stack: Stack, clients: tuple[OpenAI, OpenAI]) -> None:
    client = clients[0]
    job = wait_job(client, post(client, chat_rows(8)))
    url = f"{client.base_url}models/{job.fine_tuned_model}/download"
    headers = {"Authorization": f"Bearer {stack.key}"}
    answer = httpx.get(url, params={"variant": "adapter"}, headers=headers, timeout=60)
    assert answer.status_code in {302, 307}
    weights = httpx.get(answer.headers["location"])
    assert weights.content[:2] == b"PK"


def test_another_project_sees_nothing(stack: Stack, clients: tuple[OpenAI, OpenAI]) -> None:
    import asyncio

    client = clients[0]
    job = wait_job(client, post(client, chat_rows(8)))
    other = client.with_options(api_key=asyncio.run(stack.make_key("other")))
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


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_many_jobs_survive_many_kills(stack: Stack, clients: tuple[OpenAI, OpenAI]) -> None:
    """8 jobs, 6 workers killed at their work: none lost, none different."""
    client, rng, rows = clients[0], random.Random(5), chat_rows(16)
    jobs = [post(client, rows) for _ in range(8)]
    for _ in range(6):
        services.wait_for(lambda: any(stack.children(name) for name in ("worker", "worker2")), 120)
        time.sleep(rng.uniform(0.0, 2.0))
        victim = next((name for name in ("worker", "worker2") if stack.children(name)), "worker")
        stack.kill(victim)
        stack.start(victim)
    ends = [wait_job(client, job_id, 300) for job_id in jobs]
    assert {job.status for job in ends} == {"succeeded"}
    assert len({job.fine_tuned_model for job in ends}) == len(jobs)
    assert len({str(stack.result_hashes(str(job.fine_tuned_model))) for job in ends}) == 1

"""Metric exports to real MLflow and W&B files: every step once, and no effect on the job."""

from __future__ import annotations

import asyncio
import csv
import time
import warnings
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select
from sqlmodel import col

from jobs.integrations import INTEGRATION_KINDS, describe_missing_setup, exporter
from jobs.lifecycle import transitions
from jobs.lifecycle.states import FAILED, QUEUED, SUCCEEDED
from jobs.lifecycle.transitions import Claim
from jobs.metrics.result_files import store_result_files
from jobs.resources import Resources, open_resources
from jobs.runner import recorder
from storage import migrate
from storage.access import keys
from storage.blobs import read
from storage.ids import new_id
from storage.settings import Settings
from storage.tables import Event, Job
from training.run_events import Metrics

pytestmark = [pytest.mark.anyio, pytest.mark.integration]


@pytest.fixture(autouse=True)
def _poll_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporter, "POLL_SECONDS", 0.05)
    # MLflow requires this for its file store.
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")


@pytest.fixture
async def resources(tmp_path: Path) -> AsyncIterator[Resources]:
    settings = Settings(home=tmp_path, mlflow_uri=f"file://{tmp_path}/mlruns", wandb_offline=True)
    await migrate.upgrade(settings.database_url)
    async with open_resources(settings) as resources:
        yield resources


@dataclass
class RunningJob:
    """A job claimed by a worker."""

    resources: Resources
    claim: Claim
    job: Job

    async def record_steps(self, *steps: int) -> None:
        events = [
            Metrics(
                step=step,
                total_steps=9,
                epoch=1.0,
                learning_rate=0.5,
                train_loss=1.0 / step,
                valid_loss=2.0,
                tokens=step,
                measures={"f1_macro": 0.5},
            )
            for step in steps
        ]
        await recorder.record_progress(self.resources, self.claim, events)

    async def end(self, state: str) -> None:
        async with self.resources.db.write() as session:
            await transitions.transition(session, self.claim, state, [])

    async def list_messages(self) -> list[Event]:
        query = select(Event).where(col(Event.job_id) == self.job.id, col(Event.type) == "message")
        async with self.resources.db.read() as session:
            return list((await session.execute(query.order_by(col(Event.seq)))).scalars())

    async def export_and_end(self, *steps: int, state: str = SUCCEEDED) -> None:
        """Record steps while an export is running, then end the job."""
        assert self.job.integrations
        export_task = asyncio.create_task(
            exporter.export_metrics(self.resources, self.claim, self.job, self.job.integrations[0])
        )
        while not any(event.attempt == self.claim.attempt for event in await self.list_messages()):
            assert not export_task.done(), await export_task
            await asyncio.sleep(0.1)
        for step in steps:
            await self.record_steps(step)
            await asyncio.sleep(0.1)
        await self.end(state)
        await export_task


async def _start_job(resources: Resources, integration: dict[str, Any]) -> RunningJob:
    async with resources.db.write() as session:
        project = await keys.create_project(session, "test")
        job = Job(
            id=new_id("job"),
            project_id=project.id,
            created_at=time.time(),
            base_model="starter",
            task="chat",
            update={"type": "lora", "rank": 4},
            method={"type": "supervised"},
            hyperparameters={"learning_rate": 0.5},
            columns={},
            training_file="file-x",
            integrations=[integration],
            seed=1,
        )
        await transitions.create(session, job)
        job.state = QUEUED
    return await _claim_job(resources)


async def _claim_job(resources: Resources) -> RunningJob:
    async with resources.db.write() as session:
        claimed = await transitions.claim(session, "train", "test", 60)
    assert claimed
    return RunningJob(resources, *claimed)


def _list_mlflow_runs(resources: Resources, experiment: str) -> list[Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from mlflow import MlflowClient

        client = MlflowClient(resources.settings.mlflow_uri)
        mlflow_experiment = client.get_experiment_by_name(experiment)
        return client.search_runs([mlflow_experiment.experiment_id]) if mlflow_experiment else []


def _get_metric_history(resources: Resources, run: Any, tag: str) -> list[tuple[int, float]]:
    from mlflow import MlflowClient

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        history = MlflowClient(resources.settings.mlflow_uri).get_metric_history(run.info.run_id, tag)
    return [(metric.step, metric.value) for metric in history]


async def test_mlflow_gets_every_step_once_over_two_attempts(resources: Resources) -> None:
    first = await _start_job(resources, {"type": "mlflow", "mlflow": {"experiment": "intents", "run_name": "one"}})
    await first.export_and_end(1, 2, state=QUEUED)
    second = await _claim_job(resources)
    await second.export_and_end(2, 3, state=FAILED)
    [run] = _list_mlflow_runs(resources, "intents")
    assert (run.info.run_name, run.info.status) == ("one", "FAILED")
    assert _get_metric_history(resources, run, "train/loss") == [(1, 1.0), (2, 0.5), (3, pytest.approx(1 / 3))]
    assert _get_metric_history(resources, run, "valid/f1_macro") == [(step, 0.5) for step in (1, 2, 3)]
    assert run.data.params["base_model"] == "starter"
    assert run.data.params["update.rank"] == "4"
    [*_, last] = await second.list_messages()
    assert last.message == "Metrics of this job are exported to MLflow"


async def test_wandb_offline(resources: Resources) -> None:
    target = {"project": "p", "name": None, "entity": None, "tags": ["a"]}
    running = await _start_job(resources, {"type": "wandb", "wandb": target})
    await running.export_and_end(1, 2)
    [folder] = (resources.settings.home / "wandb").glob("offline-run-*")
    [file] = folder.glob("run-*.wandb")
    data = file.read_bytes()
    assert running.job.id.encode() in data
    assert b"valid/f1_macro" in data
    assert all(event.level == "info" for event in await running.list_messages())


async def test_a_service_that_fails_is_a_warning(resources: Resources) -> None:
    broken_resources = replace(
        resources, settings=resources.settings.model_copy(update={"mlflow_uri": "file:///proc/nowhere"})
    )
    running = await _start_job(broken_resources, {"type": "mlflow", "mlflow": {"experiment": "e"}})
    assert running.job.integrations
    await exporter.export_metrics(broken_resources, running.claim, running.job, running.job.integrations[0])
    [*_, last] = await running.list_messages()
    assert last.level == "warn"
    assert last.message.startswith("The export of metrics to MLflow stopped: ")
    await running.end(SUCCEEDED)


async def test_a_service_that_does_not_respond(resources: Resources, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporter, "RESPONSE_TIMEOUT_SECONDS", 0.2)
    running = await _start_job(resources, {"type": "mlflow", "mlflow": {"experiment": "e"}})
    assert running.job.integrations
    await exporter.export_metrics(resources, running.claim, running.job, running.job.integrations[0])
    [*_, last] = await running.list_messages()
    expected = "The export of metrics to MLflow stopped: the service does not respond."
    assert (last.level, last.message) == ("warn", expected)
    await running.end(SUCCEEDED)


async def test_result_files(resources: Resources) -> None:
    """Both files have the same steps. The CSV file comes first, as OpenAI's clients expect."""
    running = await _start_job(resources, {"type": "mlflow", "mlflow": {"experiment": "e"}})
    await running.record_steps(1, 2)
    table, events = await store_result_files(resources, running.claim, running.job)
    assert {file.purpose for file in (table, events)} == {"fine-tune-results"}
    header, *lines = csv.reader(read(resources.blobs, table.blob_key, table.sha256).decode().splitlines())
    assert header[:5] == ["step", "train_loss", "train_accuracy", "valid_loss", "valid_mean_token_accuracy"]
    assert [line[:5] for line in lines] == [["1", "1.0", "", "2.0", ""], ["2", "0.5", "", "2.0", ""]]
    rows = [dict(zip(header, line, strict=True)) for line in lines]
    assert [(row["learning_rate"], row["tokens"], row["valid_f1_macro"]) for row in rows] == [
        ("0.5", "1", "0.5"),
        ("0.5", "2", "0.5"),
    ]
    assert events.filename.startswith("events.out.tfevents.")
    data = read(resources.blobs, events.blob_key, events.sha256)
    assert len(data) == events.bytes
    assert data.count(b"train/loss") == data.count(b"valid/f1_macro") == 2


async def test_no_key_reaches_another_service(resources: Resources, monkeypatch: pytest.MonkeyPatch) -> None:
    from pydantic import SecretStr

    from storage.settings import build_integration_environment

    monkeypatch.setenv("LUTHIER_INFERENCE_TOKEN", "secret-token")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret-aws")
    settings = resources.settings.model_copy(update={"wandb_api_key": SecretStr("k" * 40)})
    environment = build_integration_environment(settings)
    assert environment["WANDB_API_KEY"] == "k" * 40
    assert not [name for name, value in environment.items() if "secret" in value or name.startswith("LUTHIER_")]


@pytest.mark.parametrize("kind", INTEGRATION_KINDS)
async def test_missing_setup_is_described(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(home=tmp_path)
    assert INTEGRATION_KINDS[kind].setting in (describe_missing_setup(kind, settings) or "")
    monkeypatch.setitem(INTEGRATION_KINDS, kind, replace(INTEGRATION_KINDS[kind], package="no_such_package"))  # type: ignore[arg-type]
    assert f"luthier[{kind}]" in (describe_missing_setup(kind, settings) or "")

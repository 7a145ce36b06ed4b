"""Tests for every task with every supported update: train, resume, save, load, predict."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training.run_folders import EventRecorder, Row, create_run_folder, hash_files, run_training
from tests.training.sample_rows import SAMPLES
from training import run as runs
from training.artifacts import serving
from training.errors import Interrupted
from training.run_events import Checkpoint, Metrics, Result, RunEvent, Started
from training.spec import TrainSpec
from training.tasks import TASKS, TASKS_BY_METHOD
from training.tasks.base import AnyTask, TaskContext
from training.trainer.checkpoint import Progress
from training.trainer.loop import train as train_steps
from training.trainer.prepare import prepare
from training.trainer.setup import build_run, cache_frozen_features, compute_reference_logprobs
from training.trainer.state import StopFlag
from training.updates import UPDATES

pytestmark = pytest.mark.integration

HYPER = {"n_epochs": 2, "batch_size": 4, "learning_rate": 0.01}
UPDATE_ROWS: dict[str, Row] = {
    "lora": {"type": "lora", "rank": 4, "dropout": 0.1},
    "full": {"type": "full"},
    "head": {"type": "head"},
    "layers": {"type": "layers", "last": 1},
    "qlora": {"type": "lora", "rank": 4, "dropout": 0.1, "base_precision": "nf4"},
}
QLORA_TASKS = {("supervised", "chat"), ("supervised", "seq2seq"), ("supervised", "text-classification")}
"""One task of each kind of model. QLoRA of the others is slow."""


def _list_cases() -> Iterator[Any]:
    for method, tasks in TASKS_BY_METHOD.items():
        for name, task in tasks.items():
            for update, row in UPDATE_ROWS.items():
                if row["type"] in task.updates - SAMPLES[method, name].unsupported_updates:
                    is_slow = update == "qlora" and (method, name) not in QLORA_TASKS
                    parts = [name, update] if method == "supervised" else [name, method, update]
                    marks = [pytest.mark.slow] if is_slow else []
                    yield pytest.param(method, name, update, id="-".join(parts), marks=marks)


CASES = [*_list_cases()]


def test_every_task_and_update_has_a_sample() -> None:
    assert set(SAMPLES) == {(method, name) for method, tasks in TASKS_BY_METHOD.items() for name in tasks}
    assert {row["type"] for row in UPDATE_ROWS.values()} == set(UPDATES)
    assert len(CASES) > 2 * len(TASKS)


@pytest.fixture
def create_sample_folder(tmp_path: Path, request: pytest.FixtureRequest) -> Any:
    def folder(name: str, method: str, task: str, update: str, **changes: Any) -> Path:
        sample = SAMPLES[method, task]
        base = request.getfixturevalue(sample.base_fixture)
        values = {"training": sample.rows, "validation": sample.rows[:5], "hyperparameters": HYPER, **changes}
        return create_run_folder(tmp_path / name, base, task, UPDATE_ROWS[update], method=method, **values)

    return folder


@pytest.mark.parametrize(("method", "task", "update"), CASES)
def test_a_stopped_and_resumed_run_equals_an_uninterrupted_one(
    create_sample_folder: Any, method: str, task: str, update: str
) -> None:
    whole, first, second = (create_sample_folder(name, method, task, update) for name in ("whole", "first", "second"))
    lines = run_training(whole)
    [result] = lines.of_type(Result)
    events = EventRecorder()
    stop = StopFlag()

    def stop_in_the_middle(line: RunEvent) -> None:
        events(line)
        if isinstance(line, Metrics) and line.step == result.step // 2:
            stop.requested = True

    with pytest.raises(Interrupted):
        runs.train(first, stop_in_the_middle, stop)
    shutil.copytree(first / events.of_type(Checkpoint)[-1].path, second / "resume")
    rest = run_training(second)
    assert hash_files(second / "result") == hash_files(whole / "result")
    assert events.clock_independent_metrics + rest.clock_independent_metrics == lines.clock_independent_metrics
    assert rest.of_type(Result)[0].resume_proof == result.resume_proof
    assert rest.of_type(Result)[0].metrics == result.metrics
    last_metrics = lines.of_type(Metrics)[-1]
    assert set(last_metrics.measures) == set(TASKS_BY_METHOD[method][task].metrics)
    assert last_metrics.train_loss < lines.of_type(Metrics)[0].train_loss or task == "embedding"


@pytest.mark.parametrize(("method", "task", "update"), CASES)
def test_a_saved_model_predicts_like_the_trained_one(
    create_sample_folder: Any, tmp_path: Path, method: str, task: str, update: str
) -> None:
    folder = create_sample_folder("run", method, task, update)
    spec = TrainSpec.read(folder)
    lines = EventRecorder()
    run = build_run(folder, spec, prepare(folder, spec, StopFlag()), lines, StopFlag())
    before = {name: tensor.detach().clone() for name, tensor in run.model.state_dict().items()}
    compute_reference_logprobs(run)
    cache_frozen_features(run, spec)
    train_steps(run, Progress())
    (tmp_path / "saved").mkdir()
    run.write_model(tmp_path / "saved")
    with run.full_eval_mode():
        moved = {name for name, tensor in run.model.state_dict().items() if not torch.equal(before[name], tensor)}
        serving_task = TASKS[task]
        examples = run.splits.training[:4] if method == "supervised" else _select_chosen(run.splits.training[:4])
        expected = _compute_outputs(serving_task, run.model, run.context, examples)
    assert moved <= set(run.trainable_parameters) | set(run.running_stats) | _find_tied_names(
        run.model, set(run.trainable_parameters)
    )
    assert any(name in moved for name in run.trainable_parameters)
    served = serving.load(spec.base, tmp_path / "saved", task)
    outputs = _compute_outputs(served.task, served.model, served.context, examples)
    for left, right in zip(expected, outputs, strict=True):
        _assert_close(left, right)
    if serving_task.route in ("predictions", "embeddings"):
        inputs = [serving_task.input_schema.model_validate(value) for value in SAMPLES[method, task].inputs]  # type: ignore[union-attr]
        together = serving.predict(served, inputs, top_k=3)
        alone = [serving.predict(served, [value], top_k=3)[0] for value in inputs]
        for left, right in zip(together, alone, strict=True):
            _assert_close(left, right)


def _find_tied_names(model: Any, trained: set[str]) -> set[str]:
    """Return other names of trained tensors; a state dict lists tied weights under each name."""
    tensors = model.state_dict()
    addresses = {tensors[name].data_ptr() for name in trained if name in tensors}
    return {name for name, tensor in tensors.items() if tensor.data_ptr() in addresses}


def _select_chosen(examples: Sequence[Any]) -> list[Any]:
    return [example.chosen for example in examples]


def _compute_outputs(task: AnyTask, model: Any, ctx: TaskContext, examples: Sequence[Any]) -> list[Any]:
    if task.route in ("predictions", "embeddings") and task.name != "embedding":
        return task.answer(model, examples, ctx, 3)
    with torch.inference_mode():
        return [
            {"loss": float(task.compute_loss(model, task.collate([example], ctx), ctx).total)} for example in examples
        ]


def _assert_close(left: Any, right: Any) -> None:
    """Assert equality up to rounding of numbers."""
    assert type(left) is type(right)
    if isinstance(left, dict):
        assert left.keys() == right.keys()
        for name in left:
            _assert_close(left[name], right[name])
    elif isinstance(left, list):
        assert len(left) == len(right)
        for left_item, right_item in zip(left, right, strict=True):
            _assert_close(left_item, right_item)
    elif isinstance(left, float):
        assert left == pytest.approx(right, rel=1e-4, abs=1e-5)
    else:
        assert left == right


@pytest.mark.parametrize("update", UPDATES)
def test_the_started_event_counts_trainable_parameters(create_sample_folder: Any, update: str) -> None:
    lines = run_training(create_sample_folder("run", "supervised", "text-classification", update))
    [started] = lines.of_type(Started)
    assert 0 < started.trainable_parameters <= started.total_parameters
    assert (started.trainable_parameters == started.total_parameters) == (update == "full")

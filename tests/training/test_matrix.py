"""Tests for every task with every supported update: train, resume, save, load, predict.

``make test`` runs every update in float32, and in bfloat16 one update per task. The others in
bfloat16 are marked slow.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.devices import DEVICE, to_device
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

DTYPES = ("float32", "bfloat16")
HYPER = {"n_epochs": 2, "batch_size": 4, "learning_rate": 0.01}
UPDATE_ROWS: dict[str, Row] = {
    "lora": {"type": "lora", "rank": 4, "dropout": 0.1},
    "full": {"type": "full"},
    "head": {"type": "head"},
    "layers": {"type": "layers", "last": 1},
    "qlora": {"type": "lora", "rank": 4, "dropout": 0.1, "base_precision": "nf4"},
}
BF16_ROUNDOFF = 2.0**-8
"""Largest relative error of rounding to bfloat16."""
BF16_TOLERANCE = 8 * BF16_ROUNDOFF
"""Of the largest number. The two blocks of a tiny model round about 30 results in sequence; errors
of independent roundings add up to their root, 5.5, and two such results differ by the root of two
more."""
QLORA_TASKS = {("supervised", "chat"), ("supervised", "seq2seq"), ("supervised", "text-classification")}
"""One task of each kind of model. QLoRA of the others is slow."""


def build_cases() -> Iterator[Any]:
    samples = [(method, name, task) for method, tasks in TASKS_BY_METHOD.items() for name, task in tasks.items()]
    for number, (method, name, task) in enumerate(samples):
        supported = task.updates - SAMPLES[method, name].unsupported_updates
        updates = [update for update in UPDATES if update in supported]
        for dtype, (update, row) in product(DTYPES, UPDATE_ROWS.items()):
            if row["type"] not in supported:
                continue
            case = name if method == "supervised" else f"{name}-{method}"
            # Successive tasks take successive updates, so that each update is among the fast cases.
            is_fast = dtype == "float32" or update == updates[number % len(updates)]
            is_slow = not is_fast or (update == "qlora" and (method, name) not in QLORA_TASKS)
            marks = [pytest.mark.slow] if is_slow else []
            yield pytest.param(method, name, update, dtype, id=f"{case}-{update}-{dtype}", marks=marks)


CASES = list(build_cases())


def test_every_task_and_update_has_a_sample() -> None:
    assert set(SAMPLES) == {(method, name) for method, tasks in TASKS_BY_METHOD.items() for name in tasks}
    assert {row["type"] for row in UPDATE_ROWS.values()} == set(UPDATES)
    assert len(CASES) > 2 * len(TASKS)


@pytest.fixture
def create_sample_folder(tmp_path: Path, request: pytest.FixtureRequest) -> Any:
    def folder(name: str, method: str, task: str, update: str, dtype: str = "float32") -> Path:
        sample = SAMPLES[method, task]
        base = request.getfixturevalue(sample.base_fixture)
        hyper = {**HYPER, "dtype": dtype}
        values = {"training": sample.rows, "validation": sample.rows[:5], "hyperparameters": hyper}
        return create_run_folder(tmp_path / name, base, task, UPDATE_ROWS[update], method=method, **values)

    return folder


@pytest.mark.parametrize(("method", "task", "update", "dtype"), CASES)
def test_a_stopped_and_resumed_run_equals_an_uninterrupted_one(
    create_sample_folder: Any, method: str, task: str, update: str, dtype: str
) -> None:
    """Equal to the last bit, in both precisions."""
    names = ("whole", "first", "second")
    whole, first, second = (create_sample_folder(name, method, task, update, dtype) for name in names)
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


@pytest.mark.parametrize(("method", "task", "update", "dtype"), CASES)
def test_a_saved_model_predicts_like_the_trained_one(
    create_sample_folder: Any, tmp_path: Path, method: str, task: str, update: str, dtype: str
) -> None:
    def load(weights_dtype: torch.dtype) -> serving.ServedModel:
        return serving.load(spec.base, tmp_path / "saved", task, weights_dtype, DEVICE.type)

    folder = create_sample_folder("run", method, task, update, dtype)
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
        with run.device.autocast():
            assert run.compute_loss(run.splits.training[:4], run.context).total.dtype == torch.float32
            expected = _compute_outputs(serving_task, run.model, run.context, examples)
            losses = _compute_losses(serving_task, run.model, run.context, examples)
    assert moved <= set(run.trainable_parameters) | set(run.running_stats) | _find_tied_names(
        run.model, set(run.trainable_parameters)
    )
    assert any(name in moved for name in run.trainable_parameters)
    tolerance = 1e-4 if dtype == "float32" else BF16_TOLERANCE
    with run.device.autocast():
        served = load(run.metadata.update.get_weights_dtype(run.device.dtype, torch.float32))
        outputs = _compute_outputs(served.task, served.model, served.context, examples)
    # In the trainer's arithmetic, only the kernels of a language model round otherwise, such as its
    # attention of short rows.
    has_own_kernels = serving_task.peft_task_type == "CAUSAL_LM"
    _assert_close(outputs, expected, tolerance if has_own_kernels else 1e-4)
    # The engine rounds weights and every result to the precision of its device.
    served = load(run.device.dtype)
    _assert_close(_compute_losses(served.task, served.model, served.context, examples), losses, tolerance)
    if serving_task.route in ("predictions", "embeddings"):
        inputs = [serving_task.input_schema.model_validate(value) for value in SAMPLES[method, task].inputs]  # type: ignore[union-attr]
        together = serving.predict(served, inputs, top_k=3)
        alone = [serving.predict(served, [value], top_k=3)[0] for value in inputs]
        _assert_close(together, alone, tolerance)


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
    return _compute_losses(task, model, ctx, examples)


@torch.inference_mode()
def _compute_losses(task: AnyTask, model: Any, ctx: TaskContext, examples: Sequence[Any]) -> list[Any]:
    batches = [to_device(task.collate([example], ctx)) for example in examples]
    return [float(task.compute_loss(model, batch, ctx).total) for batch in batches]


def _assert_close(left: Any, right: Any, tolerance: float) -> None:
    """Assert equality of structures; their numbers may differ by a share of the largest one."""
    left_numbers, right_numbers = list[float](), list[float]()
    assert _extract_numbers(left, left_numbers) == _extract_numbers(right, right_numbers)
    largest = max(map(abs, right_numbers), default=0.0)
    assert left_numbers == pytest.approx(right_numbers, rel=1e-4, abs=max(1e-5, tolerance * largest))


def _extract_numbers(value: Any, numbers: list[float]) -> Any:
    """Append the numbers in ``value`` to ``numbers`` and return the rest."""
    if isinstance(value, dict):
        return {name: _extract_numbers(item, numbers) for name, item in value.items()}
    if isinstance(value, list):
        return [_extract_numbers(item, numbers) for item in value]
    if isinstance(value, float):
        numbers.append(value)
        return float
    return value


@pytest.mark.parametrize("update", UPDATES)
def test_the_started_event_counts_trainable_parameters(create_sample_folder: Any, update: str) -> None:
    lines = run_training(create_sample_folder("run", "supervised", "text-classification", update))
    [started] = lines.of_type(Started)
    assert 0 < started.trainable_parameters <= started.total_parameters
    assert (started.trainable_parameters == started.total_parameters) == (update == "full")

"""Tests for forgetting: its measurement on held-out rows, and its reduction by general rows and
L2."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training.run_folders import FULL, LORA, EventRecorder, Row, create_run_folder, run_training, to_jsonl
from tests.training.step_probe import assert_resumed_run_matches, compute_step, run_to_completion, set_up_run
from training.data.batch_sampler import LengthGroupedBatchSampler
from training.errors import InvalidDataset
from training.run_events import Metrics, Result
from training.spec import TrainSpec
from training.trainer.evaluate import evaluate
from training.trainer.prepare import MAX_HELD_OUT_ROWS, prepare
from training.trainer.state import StopFlag

pytestmark = pytest.mark.integration


def build_chat_row(question: str, answer: str) -> Row:
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}


# The same questions with different answers: learning one set means forgetting the other.
GENERAL_ROWS = [build_chat_row(f"Is {number} odd?", "yes" if number % 2 else "no") for number in range(40)]
CONTRADICTING_ROWS = [build_chat_row(f"Is {number} odd?", "maybe so") for number in range(100, 124)]
HYPER = {"n_epochs": 3, "batch_size": 8, "learning_rate": 0.01}


def create_folder(
    directory: Path, base: Path, update: Row = FULL, rows: Any = CONTRADICTING_ROWS, **hyper: Any
) -> Path:
    folder = create_run_folder(
        directory,
        base,
        "chat",
        update,
        training=rows,
        validation=rows[:4],
        general_file="general.data",
        hyperparameters={**HYPER, **hyper},
    )
    (folder / "general.data").write_text(to_jsonl(GENERAL_ROWS))
    return folder


@pytest.fixture(scope="module")
def general_base(tmp_path_factory: pytest.TempPathFactory, chat_base: Path) -> Path:
    """A base with a low loss on the general rows."""
    folder = tmp_path_factory.mktemp("general") / "run"
    hyper = {"n_epochs": 12, "batch_size": 8, "learning_rate": 0.01}
    lines = run_training(
        create_run_folder(folder, chat_base, "chat", FULL, training=GENERAL_ROWS, hyperparameters=hyper)
    )
    assert lines.of_type(Metrics)[-1].train_loss < 0.4
    return folder / "result"


def test_an_epoch_has_its_share_of_general_rows_and_all_of_its_own() -> None:
    batches = LengthGroupedBatchSampler([5] * 50, 8, seed=1, general_count=20, general_per_epoch=10)
    assert batches.steps_per_epoch == 5
    drawn = []
    for epoch in range(3):
        rows = [row for step in range(1, 6) for row in batches.get_batch(epoch * 5 + step)]
        assert sorted(row for row in rows if row < 30) == list(range(30))
        general = {row for row in rows if row >= 30}
        assert len(rows) - 30 == len(general) == 10
        drawn.append(general)
    assert drawn[0] != drawn[1]
    assert LengthGroupedBatchSampler([5] * 50, 8, seed=1, general_count=20, general_per_epoch=10).get_batch(
        7
    ) == batches.get_batch(7)


@pytest.mark.parametrize(("share", "mixed"), [(0.25, 8), (0.5, 24), (0.9, 36), (0.0, 0), ("auto", 3)])
def test_the_share_is_kept(tmp_path: Path, chat_base: Path, share: Any, mixed: int) -> None:
    run = set_up_run(create_folder(tmp_path / "run", chat_base, general_share=share))
    assert (len(run.splits.training), len(run.splits.general), len(run.splits.held_out)) == (24, 36, 4)
    steps = range(1, run.batch_sampler.steps_per_epoch + 1)
    rows = [row for step in steps for row in run.batch_sampler.get_batch(step)]
    assert sum(row >= 24 for row in rows) == run.splits.general_per_epoch == mixed
    assert run.hyper.general_share == (0.1 if share == "auto" else share)


def test_held_out_rows_are_never_trained_on(tmp_path: Path, chat_base: Path) -> None:
    run = set_up_run(create_folder(tmp_path / "run", chat_base, general_share=0.5))
    held_out = {bytes(example.ids) for example in run.splits.held_out}
    assert held_out.isdisjoint(bytes(example.ids) for example in run.splits.training_pool)
    spec = TrainSpec.read(run.folder)
    assert prepare(run.folder, spec, StopFlag()).held_out == prepare(run.folder, spec, StopFlag()).held_out
    other = prepare(run.folder, spec.model_copy(update={"seed": 8}), StopFlag())
    assert {bytes(example.ids) for example in other.held_out.examples} != held_out
    assert MAX_HELD_OUT_ROWS == 200


def test_the_losses_before_and_after_are_reported(tmp_path: Path, general_base: Path) -> None:
    folder = create_folder(tmp_path / "run", general_base, general_share=0.0)
    untrained = set_up_run(folder)
    before = [evaluate(untrained, rows).loss for rows in (untrained.splits.validation, untrained.splits.held_out)]
    lines = run_training(folder)
    metrics = lines.of_type(Result)[0].metrics
    assert [metrics["valid_loss_before"], metrics["general_loss_before"]] == before
    last = lines.of_type(Metrics)[-1]
    assert (metrics["valid_loss"], metrics["general_loss"]) == (last.valid_loss, last.general_loss)
    assert last.valid_loss is not None
    assert last.valid_loss < before[0]


def test_without_validation_rows_the_general_loss_is_reported_too(tmp_path: Path, chat_base: Path) -> None:
    folder = create_folder(tmp_path / "run", chat_base, max_steps=2)
    spec = TrainSpec.read(folder)
    spec.model_copy(update={"validation_file": None}).write(folder)
    metrics = run_training(folder).of_type(Result)[0].metrics
    assert {"general_loss", "general_loss_before"} <= metrics.keys()
    assert not any(name.startswith("valid") for name in metrics)


def measure_general_loss(folder: Path) -> float:
    metrics = run_training(folder).of_type(Result)[0].metrics
    loss = metrics["general_loss"]
    assert loss is not None
    return loss


@pytest.mark.parametrize(
    "guard", [{"general_share": 0.4}, {"general_share": 0.0, "l2_to_base": 10.0}], ids=["share", "l2"]
)
def test_either_guard_lowers_the_rise_of_the_general_loss(tmp_path: Path, general_base: Path, guard: Row) -> None:
    unguarded = measure_general_loss(create_folder(tmp_path / "unguarded", general_base, general_share=0.0))
    guarded = measure_general_loss(create_folder(tmp_path / "guarded", general_base, **guard))
    untrained = set_up_run(create_folder(tmp_path / "untrained", general_base))
    loss_before = evaluate(untrained, untrained.splits.held_out).loss
    assert unguarded > loss_before + 1
    assert guarded - loss_before < 0.7 * (unguarded - loss_before)


def test_a_strong_l2_penalty_keeps_the_weights_near_their_start(tmp_path: Path, chat_base: Path) -> None:
    """With SGD and rate · penalty = 1/2, each step halves the distance of the previous one."""
    distances = []
    for l2_to_base in (0.0, 1000.0):
        hyper = {"optimizer": "sgd", "learning_rate": 5e-4, "l2_to_base": l2_to_base, "max_grad_norm": 1000.0}
        done = run_to_completion(create_folder(tmp_path / str(l2_to_base), chat_base, **hyper))
        steps = [
            done.run.trainable_parameters[name].detach() - done.initial_tensors[name]
            for name in done.run.trainable_parameters
        ]
        distances.append(float(torch.cat([step.flatten() for step in steps]).norm()))
    assert 0 < distances[1] < 0.3 * distances[0]


@pytest.mark.parametrize("update", [FULL, LORA], ids=["full", "lora"])
def test_the_l2_gradient_is_that_of_its_penalty(tmp_path: Path, chat_base: Path, update: Row) -> None:
    """Compares with autograd on l2 / 2 · |w - w₀|², 0.01 away from the initial weights."""
    l2_to_base = 0.7
    plain, penalized = (
        set_up_run(create_folder(tmp_path / name, chat_base, update, l2_to_base=value, max_grad_norm=1000.0))
        for name, value in (("plain", 0.0), ("penalized", l2_to_base))
    )
    start = {name: weight.detach().clone() for name, weight in penalized.trainable_parameters.items()}
    with torch.no_grad():
        for run in (plain, penalized):
            for weight in run.trainable_parameters.values():
                weight.add_(0.01)
    weights = penalized.trainable_parameters
    penalty = l2_to_base / 2 * sum(((weights[name] - start[name]) ** 2).sum() for name in start)
    expected = dict(zip(start, torch.autograd.grad(penalty, [weights[name] for name in start]), strict=True))
    examples = plain.splits.training[:4]
    plain_gradients, gradients = compute_step(plain, examples)[1], compute_step(penalized, examples)[1]
    assert gradients.keys() == plain_gradients.keys()
    for name in gradients:
        torch.testing.assert_close(gradients[name], plain_gradients[name] + expected[name], rtol=1e-4, atol=1e-6)


def test_stopped_at_every_step_with_both_guards(tmp_path: Path, chat_base: Path) -> None:
    def create_guarded_folder(name: str) -> Path:
        hyper = {"general_share": 0.4, "l2_to_base": 0.1, "max_steps": 6, "batch_size": 16, "eval_every": 2}
        return create_folder(tmp_path / name, chat_base, LORA, **hyper)

    whole: EventRecorder = run_training(create_guarded_folder("whole"))
    for step in range(1, 6):
        assert_resumed_run_matches(create_guarded_folder, step, whole)


def test_a_general_row_with_an_unknown_label_is_an_issue(tmp_path: Path, encoder_base: Path) -> None:
    folder = create_run_folder(tmp_path / "run", encoder_base, "text-classification", FULL, general_file="general.data")
    (folder / "general.data").write_text('{"text": "a", "label": "apple"}\n{"text": "b", "label": "plum"}\n')
    with pytest.raises(InvalidDataset) as caught:
        run_training(folder)
    [error] = caught.value.errors
    assert (error.file, error.line, error.code, error.field) == ("general_file", 2, "unknown_label", "label")

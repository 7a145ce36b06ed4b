"""Tests for jobs that continue an earlier result: first loss, labels, and resumption."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training.run_folders import CHAT_ROWS, FULL, LABEL_ROWS, LORA, Row, create_run_folder, run_training
from tests.training.step_probe import assert_resumed_run_matches, compute_step, run_to_completion, set_up_run
from training.artifacts.result import ResultMetadata
from training.errors import InvalidDataset
from training.run_events import Metrics, Result

pytestmark = pytest.mark.integration

BASES = {"chat": "chat_base", "text-classification": "encoder_base"}
ROWS = {"chat": CHAT_ROWS, "text-classification": LABEL_ROWS}
RSLORA: Row = {"type": "lora", "rank": 4, "alpha": 8, "rslora": True, "target_modules": ["q_proj", "v_proj"]}
HYPER = {"n_epochs": 2, "batch_size": 4, "learning_rate": 0.01}


def create_continued_folder(directory: Path, start: Path, base: Path, task: str, update: Row, **changes: Any) -> Path:
    """Create a folder whose run starts from the result in ``start``."""
    folder = create_run_folder(directory, base, task, update, start="start", **{"hyperparameters": HYPER, **changes})
    shutil.copytree(start, folder / "start")
    return folder


CASES = [("chat", LORA), ("chat", RSLORA), ("chat", FULL), ("text-classification", LORA), ("text-classification", FULL)]


@pytest.mark.parametrize(("task", "update"), CASES)
def test_the_first_loss_is_the_earlier_models(
    tmp_path: Path, task: str, update: Row, request: pytest.FixtureRequest
) -> None:
    base, rows = request.getfixturevalue(BASES[task]), ROWS[task]
    first = create_run_folder(tmp_path / "first", base, task, update, validation=rows, hyperparameters=HYPER)
    earlier = run_to_completion(first)
    shutil.rmtree(first / "checkpoints")
    (first / "result").mkdir()
    earlier.run.write_model(first / "result")
    second = create_continued_folder(tmp_path / "second", first / "result", base, task, update, validation=rows)
    run = set_up_run(second)
    assert run.trainable_parameters.keys() == earlier.run.trainable_parameters.keys()
    rows_of_step = [run.splits.training[row] for row in run.batch_sampler.get_batch(1)]
    losses = []
    for training_run in (run, earlier.run):
        with training_run.full_eval_mode(), torch.no_grad():
            losses.append(training_run.compute_loss(rows_of_step, training_run.eval_context).total)
    assert torch.equal(*losses)
    lines = run_training(second)
    final_metrics = lines.of_type(Result)[0].metrics
    assert final_metrics["valid_loss_before"] == pytest.approx(earlier.events.of_type(Metrics)[-1].valid_loss, rel=1e-6)
    assert final_metrics["valid_loss"] != final_metrics["valid_loss_before"]


def test_an_adapter_is_continued_with_its_config(tmp_path: Path, chat_base: Path) -> None:
    first = create_run_folder(tmp_path / "first", chat_base, "chat", RSLORA, hyperparameters=HYPER)
    run_training(first)
    second = create_continued_folder(tmp_path / "second", first / "result", chat_base, "chat", RSLORA)
    lines = run_training(second)
    assert lines.of_type(Metrics)[-1].train_loss < lines.of_type(Metrics)[0].train_loss
    configs = [(folder / "result/adapter_config.json").read_text() for folder in (first, second)]
    assert configs[0] == configs[1]
    assert '"use_rslora": true' in configs[0]
    assert ResultMetadata.read(second / "result").base == "tiny"


@pytest.mark.parametrize("update", [{"type": "head"}, {"type": "layers", "last": 1}], ids=["head", "layers"])
def test_full_weights_are_continued_in_part(tmp_path: Path, encoder_base: Path, update: Row) -> None:
    """Frozen weights are those of the earlier result, not those of the base."""
    task = "text-classification"
    first = create_run_folder(tmp_path / "first", encoder_base, task, FULL, hyperparameters=HYPER)
    earlier = run_to_completion(first)
    (first / "result").mkdir()
    earlier.run.write_model(first / "result")
    done = run_to_completion(create_continued_folder(tmp_path / "second", first / "result", encoder_base, task, update))
    for name, tensor in earlier.run.model.state_dict().items():
        assert torch.equal(tensor, done.initial_tensors[name])
    assert done.changed_tensors == set(done.run.trainable_parameters) < set(earlier.run.trainable_parameters)


def test_the_l2_penalty_is_relative_to_the_start_of_this_run(tmp_path: Path, encoder_base: Path) -> None:
    first = create_run_folder(tmp_path / "first", encoder_base, "text-classification", FULL, hyperparameters=HYPER)
    run_training(first)
    hyper = {**HYPER, "l2_to_base": 1.0}
    folders = [
        create_continued_folder(
            tmp_path / name, first / "result", encoder_base, "text-classification", FULL, hyperparameters=values
        )
        for name, values in (("penalized", hyper), ("plain", HYPER))
    ]
    (_, penalized), (_, plain) = (compute_step(run, run.splits.training) for run in map(set_up_run, folders))
    assert all(torch.equal(penalized[name], plain[name]) for name in plain)


@pytest.mark.parametrize("update", [LORA, FULL], ids=["lora", "full"])
def test_a_continued_run_is_stopped_and_resumed(tmp_path: Path, encoder_base: Path, update: Row) -> None:
    task = "text-classification"
    first = create_run_folder(tmp_path / "first", encoder_base, task, update, hyperparameters=HYPER)
    run_training(first)
    hyper = {**HYPER, "l2_to_base": 0.5}

    def create_folder(name: str) -> Path:
        return create_continued_folder(
            tmp_path / name, first / "result", encoder_base, task, update, hyperparameters=hyper
        )

    whole = run_training(create_folder("whole"))
    for step in (1, 4):
        assert_resumed_run_matches(create_folder, step, whole)


@pytest.fixture(scope="module")
def fruit_classifier(tmp_path_factory: pytest.TempPathFactory, encoder_base: Path) -> Path:
    """A result that classifies three labels."""
    rows = [*LABEL_ROWS, *({"text": "plum " * number, "label": "plum"} for number in range(1, 5))]
    folder = tmp_path_factory.mktemp("fruit") / "run"
    run_training(
        create_run_folder(folder, encoder_base, "text-classification", FULL, training=rows, hyperparameters=HYPER)
    )
    return folder / "result"


def test_a_classifier_keeps_its_labels(tmp_path: Path, encoder_base: Path, fruit_classifier: Path) -> None:
    """The new file has one of three labels; on its own it could not be trained on."""
    rows = [{"text": "a pear", "label": "pear"}, {"text": "more pears", "label": "pear"}]
    hyper = {**HYPER, "class_weights": "balanced"}
    folder = create_continued_folder(
        tmp_path / "run",
        fruit_classifier,
        encoder_base,
        "text-classification",
        FULL,
        training=rows,
        hyperparameters=hyper,
    )
    run_training(folder)
    state = ResultMetadata.read(folder / "result").state
    assert state["labels"] == ["apple", "pear", "plum"]
    # Weights are balanced over the current file.
    assert state["counts"] == [0, 2, 0]


def test_an_unknown_label_is_an_issue_of_its_line(tmp_path: Path, encoder_base: Path, fruit_classifier: Path) -> None:
    rows = [{"text": "a pear", "label": "pear"}, {"text": "a fig", "label": "fig"}, {"text": "b", "labels": ["pear"]}]
    folder = create_continued_folder(
        tmp_path / "run", fruit_classifier, encoder_base, "text-classification", FULL, training=rows
    )
    with pytest.raises(InvalidDataset) as caught:
        run_training(folder)
    assert [(error.file, error.line, error.code, error.field) for error in caught.value.errors] == [
        ("training_file", 2, "unknown_label", "label"),
        ("training_file", 3, "wrong_value", "label"),
    ]
    assert "'fig'" in caught.value.errors[0].message

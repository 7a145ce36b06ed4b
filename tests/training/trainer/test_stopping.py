"""Tests for early stopping, time limits, and the choice of the result's weights."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.training.run_folders import (
    FULL,
    LABEL_ROWS,
    LORA,
    EventRecorder,
    Row,
    create_run_folder,
    hash_files,
    run_training,
)
from tests.training.step_probe import assert_resumed_run_matches, get_event_recorder, set_up_run
from training.run_events import Checkpoint, Message, Metrics, Result
from training.spec import TrainSpec
from training.trainer import loop
from training.trainer.checkpoint import BEST_WEIGHTS_FILE, Progress
from training.trainer.finish import write_result
from training.trainer.prepare import prepare
from training.trainer.saver import update_early_stopping
from training.trainer.state import StopFlag, TrainingRun

pytestmark = pytest.mark.integration

# Most rows equal training rows and some contradict them, so the validation loss falls, then rises.
CONTRADICTING_ROWS: list[Row] = [
    *LABEL_ROWS[:6],
    *({**row, "label": {"apple": "pear", "pear": "apple"}[row["label"]]} for row in LABEL_ROWS[6:9]),
]
PATIENCE = 3
HYPER = {
    "n_epochs": 10,
    "batch_size": 4,
    "learning_rate": 0.001,
    "lr_scheduler": "constant",
    "warmup_ratio": 0.0,
    "eval_every": 1,
    "save_every": 1,
}


def create_folder(directory: Path, base: Path, update: Row = FULL, **hyper: Any) -> Path:
    hyper = {**HYPER, "early_stopping_patience": PATIENCE, **hyper}
    return create_run_folder(
        directory,
        base,
        "text-classification",
        update,
        validation=CONTRADICTING_ROWS,
        hyperparameters=hyper,
        save_seconds=1e9,
    )


@pytest.fixture(scope="module")
def early_stopped_run(tmp_path_factory: pytest.TempPathFactory, encoder_base: Path) -> tuple[Path, EventRecorder]:
    folder = create_folder(tmp_path_factory.mktemp("runs") / "whole", encoder_base)
    return folder, run_training(folder)


def test_it_stops_when_patience_is_over_and_gives_the_best_weights(
    early_stopped_run: tuple[Path, EventRecorder],
) -> None:
    folder, lines = early_stopped_run
    losses = {line.step: line.valid_loss for line in lines.of_type(Metrics)}
    best = min(losses, key=lambda step: losses[step])
    assert best > 1
    assert max(losses) == best + PATIENCE < lines.of_type(Metrics)[0].total_steps
    [result] = lines.of_type(Result)
    assert result.step == best
    assert result.metrics["valid_loss"] == losses[best]
    assert hash_files(folder / "result") == hash_files(folder / f"checkpoints/step-{best}/model")
    assert hash_files(folder / "result") != hash_files(folder / f"checkpoints/step-{max(losses)}/model")
    [message] = [line.message for line in lines.of_type(Message) if "early" in line.message]
    assert f"Stopped early at step {max(losses)}: {PATIENCE} evaluations" in message
    assert f"{losses[best]:.4f} at step {best}." in message


def test_stopped_and_resumed_in_the_middle_of_patience(
    early_stopped_run: tuple[Path, EventRecorder], encoder_base: Path
) -> None:
    folder, whole = early_stopped_run
    best, last = whole.of_type(Result)[0].step, whole.of_type(Metrics)[-1].step
    for step in range(best - 1, last):
        events = assert_resumed_run_matches(lambda name: create_folder(folder.parent / name, encoder_base), step, whole)
        state = folder.parent / f"{step}-first" / events.of_type(Checkpoint)[-1].path / "state"
        progress = Progress.model_validate_json((state / "progress.json").read_bytes())
        assert progress.best is not None
        assert progress.best.stale == max(0, step - best)
        assert (state / BEST_WEIGHTS_FILE).is_file()


def test_an_ended_runs_last_checkpoint_gives_its_result_without_a_step(
    early_stopped_run: tuple[Path, EventRecorder], encoder_base: Path
) -> None:
    folder, lines = early_stopped_run
    resumed = create_folder(folder.parent / "resumed", encoder_base)
    shutil.copytree(folder / lines.of_type(Checkpoint)[-1].path, resumed / "resume")
    rest = run_training(resumed)
    assert rest.of_type(Metrics) == []
    assert rest.of_type(Result) == lines.of_type(Result)
    assert hash_files(resumed / "result") == hash_files(folder / "result")


@pytest.mark.parametrize("update", [LORA, {"type": "head"}], ids=["lora", "head"])
def test_the_best_of_a_run_that_is_not_stopped_early(tmp_path: Path, encoder_base: Path, update: Row) -> None:
    folder = create_folder(tmp_path / "run", encoder_base, update, early_stopping_patience=1000, n_epochs=3)
    lines = run_training(folder)
    losses = {line.step: line.valid_loss for line in lines.of_type(Metrics)}
    assert len(losses) == lines.of_type(Metrics)[0].total_steps
    best = min(losses, key=lambda step: losses[step])
    assert lines.of_type(Result)[0].step == best
    assert hash_files(folder / "result") == hash_files(folder / f"checkpoints/step-{best}/model")


def test_without_early_stopping_the_last_weights(tmp_path: Path, encoder_base: Path) -> None:
    folder = create_folder(tmp_path / "run", encoder_base, early_stopping_patience=0, n_epochs=2, save_every=8)
    [result] = run_training(folder).of_type(Result)
    assert result.step == 8
    assert hash_files(folder / "result") == hash_files(folder / "checkpoints/step-8/model")
    assert not (folder / BEST_WEIGHTS_FILE).exists()


def test_a_non_finite_loss_is_never_the_best(tmp_path: Path, encoder_base: Path) -> None:
    run = set_up_run(create_folder(tmp_path / "run", encoder_base))
    metrics = Metrics(step=1, total_steps=9, epoch=0.1, learning_rate=0.1, train_loss=1.0, tokens=1)
    progress = Progress()
    for step, loss in enumerate((float("nan"), 3.0, 2.0, float("inf"), 2.5), start=1):
        progress = update_early_stopping(run, progress, metrics.model_copy(update={"step": step, "valid_loss": loss}))
    assert progress.best is not None
    assert (progress.best.metrics.step, progress.best.metrics.valid_loss, progress.best.stale) == (3, 2.0, 1)


@pytest.fixture
def run(tmp_path: Path, encoder_base: Path) -> TrainingRun:
    return set_up_run(create_folder(tmp_path / "run", encoder_base, early_stopping_patience=0))


def test_the_time_limit_ends_the_run_after_a_step(run: TrainingRun) -> None:
    run.hyper = run.hyper.model_copy(update={"max_seconds": 1e-9, "eval_every": 7})
    progress = loop.train(run, Progress())
    assert (progress.step, progress.ended) == (1, True)
    [metrics] = get_event_recorder(run).of_type(Metrics)
    assert metrics.valid_loss is not None
    result = write_result(run, progress)
    assert result.step == 1
    assert hash_files(run.folder / "result") == hash_files(run.folder / "checkpoints/step-1/model")
    # A resumed run that has ended does no step.
    assert loop.train(run, progress) == progress


def test_the_seconds_of_earlier_attempts_count(run: TrainingRun) -> None:
    run.hyper = run.hyper.model_copy(update={"max_seconds": 1000})
    progress = loop.train(run, Progress(step=4, tokens=9, seconds=999.999_999))
    assert (progress.step, progress.ended) == (5, True)
    assert progress.seconds > 1000


def prepare_splits(folder: Path) -> tuple[list[Any], list[Any]]:
    prepared = prepare(folder, TrainSpec.read(folder), StopFlag())
    return prepared.training.examples, prepared.validation.examples


def test_a_share_of_the_training_rows_is_held_out_by_the_seed(tmp_path: Path, encoder_base: Path) -> None:
    rows = [{"text": f"number {number} ok", "label": "ab"[number % 2]} for number in range(40)]

    def create_split_folder(name: str, seed: int, share: float) -> Path:
        hyper = {"validation_share": share, "max_steps": 2}
        folder = tmp_path / name
        return create_run_folder(
            folder, encoder_base, "text-classification", FULL, training=rows, seed=seed, hyperparameters=hyper
        )

    training, validation = prepare_splits(create_split_folder("a", 1, 0.2))
    assert (len(training), len(validation)) == (32, 8)
    all_examples, held_out = prepare_splits(create_split_folder("whole", 1, 0.0))
    assert held_out == []
    assert sorted(bytes(example.ids) for example in [*training, *validation]) == sorted(
        bytes(example.ids) for example in all_examples
    )
    assert prepare_splits(create_split_folder("again", 1, 0.2)) == (training, validation)
    assert prepare_splits(create_split_folder("other", 2, 0.2))[1] != validation
    # At least one row, and never all.
    assert [len(split) for split in prepare_splits(create_split_folder("least", 1, 0.001))] == [39, 1]
    lines = run_training(tmp_path / "a")
    assert lines.of_type(Metrics)[-1].valid_loss is not None
    assert {"valid_loss", "valid_loss_before", "valid_accuracy"} <= lines.of_type(Result)[0].metrics.keys()
    metadata = json.loads((tmp_path / "a/result/luthier.json").read_text())
    assert metadata["hyperparameters"]["validation_share"] == 0.2

"""Tests for validation before training and for failures."""

from __future__ import annotations

import errno
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.tiny import create_tiny_chat_base
from tests.training.run_folders import (
    CHAT_ROWS,
    FULL,
    LABEL_ROWS,
    LORA,
    EventRecorder,
    create_run_folder,
    hash_files,
    run_training,
    to_jsonl,
)
from tests.training.step_probe import get_event_recorder, set_up_run
from training import run, run_events, run_reports
from training.errors import RUN_CODES, Interrupted, InvalidDataset, TrainingError
from training.run_events import Checkpoint, Failure, Message, Metrics, Result, Started, Stopped, Validated
from training.spec import DEVICE_HYPERPARAMETERS, TrainSpec
from training.trainer import loop
from training.trainer.checkpoint import Progress
from training.trainer.failures import to_failure
from training.trainer.state import StopFlag

pytestmark = pytest.mark.integration


def run_validation(folder: Path) -> EventRecorder:
    lines = EventRecorder()
    run.validate(folder, lines)
    return lines


def expect_failure(folder: Path, phase: Any = run.validate) -> Failure:
    with pytest.raises(TrainingError) as error:
        phase(folder, EventRecorder())
    failure = to_failure(error.value)
    assert failure
    assert failure.code in RUN_CODES
    return failure


def test_validation_matches_training(tmp_path: Path, encoder_base: Path) -> None:
    task = "text-classification"
    auto_folder = create_run_folder(tmp_path / "a", encoder_base, task, FULL, validation=LABEL_ROWS[:3])
    [line] = run_validation(auto_folder).of_type(Validated)
    assert (line.rows, line.validation_rows) == (16, 3)
    # The dtype is pinned; the others depend on the device that trains.
    unresolved = {name for name, value in line.hyperparameters.items() if value == "auto"}
    assert unresolved == DEVICE_HYPERPARAMETERS - {"dtype"}
    spec = json.loads((auto_folder / "spec.json").read_text())
    resolved_folder = create_run_folder(tmp_path / "b", encoder_base, task, FULL, validation=LABEL_ROWS[:3])
    (resolved_folder / "spec.json").write_text(json.dumps(spec | {"hyperparameters": line.hyperparameters}))
    [repeated] = run_validation(resolved_folder).of_type(Validated)
    assert repeated == line
    lines = run_training(resolved_folder)
    [result] = lines.of_type(Result)
    assert result.step == line.total_steps == lines.of_type(Started)[0].total_steps
    assert result.trained_tokens == line.tokens * line.hyperparameters["n_epochs"]
    expected_metrics = {"train_loss", "train_accuracy", "valid_loss", "valid_accuracy", "valid_loss_before"}
    assert set(result.metrics) == expected_metrics | {"valid_f1_macro", "valid_f1_micro"}
    assert all(math.isfinite(value) for value in result.metrics.values() if value is not None)
    run_training(auto_folder)
    assert hash_files(auto_folder / "result") == hash_files(resolved_folder / "result")


def test_metrics_and_checkpoints_come_when_requested(tmp_path: Path, chat_base: Path) -> None:
    hyper = {"n_epochs": 3, "batch_size": 4, "eval_every": 4, "save_every": 5, "max_steps": 8}
    folder = create_run_folder(tmp_path / "a", chat_base, "chat", LORA, validation=CHAT_ROWS[:2], hyperparameters=hyper)
    lines = run_training(folder)
    metrics = lines.of_type(Metrics)
    assert [line.step for line in metrics] == list(range(1, 9))
    assert [line.step for line in metrics if line.valid_loss is not None] == [4, 8]
    assert [(line.step, line.keep) for line in lines.of_type(Checkpoint)] == [(5, True)]
    assert [round(line.epoch, 2) for line in metrics[-3:]] == [2.0, 2.33, 2.67]
    assert all(math.isfinite(line.tokens_per_second) and line.eta_seconds >= 0 for line in metrics)
    assert lines.events[-1].type == "result"


def test_ten_thousand_steps_report_about_a_thousand() -> None:
    from training.trainer.loop import _is_logging_step

    steps = [step for step in range(1, 10_001) if _is_logging_step(step, 10_000)]
    assert (steps[0], steps[-1]) == (1, 10_000)
    assert len(steps) <= 1002
    assert all(_is_logging_step(step, 500) for step in range(1, 501))


def test_issues_carry_line_field_and_file(tmp_path: Path, chat_base: Path) -> None:
    content = to_jsonl(CHAT_ROWS[:2]) + '{"messages": [{"role": "user", "content": "a"}]}\nnonsense\n'
    failure = expect_failure(create_run_folder(tmp_path / "a", chat_base, "chat", LORA, training=content))
    assert (failure.code, failure.param, failure.fault_count) == ("invalid_dataset", "training_file", 2)
    assert [(row_error.line, row_error.code) for row_error in failure.faults] == [(3, "no_assistant"), (4, "json")]
    assert "line 3" in failure.message
    failure = expect_failure(create_run_folder(tmp_path / "b", chat_base, "chat", LORA, validation=content))
    assert (failure.param, failure.faults[0].file) == ("validation_file", "validation_file")


def test_a_hundred_issues_are_reported_and_all_are_counted(tmp_path: Path, chat_base: Path) -> None:
    failure = expect_failure(create_run_folder(tmp_path / "a", chat_base, "chat", LORA, training="{}\n" * 250))
    assert (len(failure.faults), failure.fault_count) == (100, 250)


@pytest.mark.parametrize("content", ["", " \n\n", "[]"])
def test_an_empty_file(tmp_path: Path, chat_base: Path, content: str) -> None:
    failure = expect_failure(create_run_folder(tmp_path / "a", chat_base, "chat", LORA, training=content))
    assert (failure.code, failure.faults[0].code) == ("invalid_dataset", "empty_file")


def test_labels(tmp_path: Path, encoder_base: Path) -> None:
    single_label = [{"text": "a", "label": "x"}] * 3
    failure = expect_failure(
        create_run_folder(tmp_path / "a", encoder_base, "text-classification", FULL, training=single_label)
    )
    assert (failure.code, failure.param) == ("invalid_dataset", "training_file")
    unknown = [{"text": "a", "label": "apple"}, {"text": "b", "label": "plum"}]
    failure = expect_failure(
        create_run_folder(tmp_path / "b", encoder_base, "text-classification", FULL, validation=unknown)
    )
    [row_error] = failure.faults
    assert (row_error.code, row_error.file) == ("unknown_label", "validation_file")
    assert (row_error.line, row_error.field) == (2, "label")


@pytest.mark.parametrize(
    ("row", "code", "field"),
    [
        ({"label": "x"}, "missing_field", "text"),
        ({"text": "a"}, "missing_field", "label"),
        ({"text": "a", "label": 3}, "wrong_type", "label"),
        ({"text": "a", "label": " "}, "empty_content", "label"),
        ({"text": " ", "label": "x"}, "empty_content", "text"),
        ({"text": None, "label": "x"}, "wrong_type", "text"),
        ({"text": "a", "text_pair": 1, "label": "x"}, "wrong_type", "text_pair"),
    ],
)
def test_classification_rows(tmp_path: Path, encoder_base: Path, row: Any, code: str, field: str) -> None:
    folder = create_run_folder(tmp_path / "a", encoder_base, "text-classification", FULL, training=[*LABEL_ROWS, row])
    [row_error] = expect_failure(folder).faults
    assert (row_error.code, row_error.field, row_error.line) == (code, field, 17)


def test_csv_with_columns_equals_jsonl(tmp_path: Path, encoder_base: Path) -> None:
    cells = "".join(f'{index},"{row["text"]}",{row["label"]}\n' for index, row in enumerate(LABEL_ROWS))
    csv_folder = create_run_folder(
        tmp_path / "a",
        encoder_base,
        "text-classification",
        FULL,
        training="id,body,category\n" + cells,
        columns={"text": "body", "label": "category"},
    )
    jsonl_folder = create_run_folder(tmp_path / "b", encoder_base, "text-classification", FULL)
    run_training(csv_folder)
    run_training(jsonl_folder)
    assert hash_files(csv_folder / "result") == hash_files(jsonl_folder / "result")


def test_few_and_long_rows_are_trained_with_a_warning(tmp_path: Path, chat_base: Path) -> None:
    folder = create_run_folder(
        tmp_path / "a", chat_base, "chat", LORA, training=CHAT_ROWS[:3], hyperparameters={"max_length": 40}
    )
    warnings = [line.message for line in run_validation(folder).of_type(Message)]
    assert len(warnings) == 2
    assert "3 rows" in warnings[0]
    assert "truncated to 40 tokens" in warnings[1]


def test_bases_that_cannot_be_used(tmp_path: Path, encoder_base: Path) -> None:
    assert (
        expect_failure(create_run_folder(tmp_path / "a", tmp_path / "nowhere", "chat", LORA)).code
        == "base_model_unavailable"
    )
    without_template = create_run_folder(tmp_path / "b", encoder_base, "chat", LORA)
    assert "chat template" in expect_failure(without_template).message
    wrong_modules = create_run_folder(
        tmp_path / "c",
        create_tiny_chat_base(tmp_path / "base"),
        "chat",
        {"type": "lora", "target_modules": ["nothing"]},
    )
    failure = expect_failure(wrong_modules, run.train)
    assert (failure.code, failure.param) == ("base_model_unavailable", "update")
    assert "nothing" in failure.message


def test_a_loss_that_is_not_finite_ends_the_run_with_the_last_good_weights(tmp_path: Path, chat_base: Path) -> None:
    """Hidden states overflow in step 3. A high learning rate alone overflows on some devices only:
    a norm of infinite inputs gives zeros."""
    run = set_up_run(create_run_folder(tmp_path / "a", chat_base, "chat", LORA, hyperparameters={"n_epochs": 5}))
    lines = get_event_recorder(run)
    norm = run.model.get_decoder().norm
    norm.register_forward_hook(lambda *call: call[2] * (torch.inf if len(lines.of_type(Metrics)) == 2 else 1.0))
    with pytest.raises(TrainingError) as error:
        loop.train(run, Progress())
    assert error.value.code == "non_finite_loss"
    assert "at step 3" in error.value.message
    last = lines.of_type(Checkpoint)[-1]
    assert (last.step, last.keep) == (2, True)
    weights = load_file(run.folder / last.path / "model" / "adapter_model.safetensors")
    assert any(bool(tensor.any()) for name, tensor in weights.items() if "lora_B" in name)
    assert all(bool(tensor.isfinite().all()) for tensor in weights.values())


def test_a_stop_request_during_reading(tmp_path: Path, chat_base: Path) -> None:
    folder = create_run_folder(tmp_path / "a", chat_base, "chat", LORA)
    for phase in (run.validate, run.train):
        with pytest.raises(Interrupted):
            phase(folder, EventRecorder(), StopFlag(requested=True))


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (MemoryError(), "out_of_memory"),
        (torch.OutOfMemoryError("CUDA out of memory"), "out_of_memory"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"), "out_of_memory"),
        (OSError(errno.ENOSPC, "No space left on device"), "disk_full"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "out_of_memory"),
        (TrainingError("non_finite_loss", "x"), "non_finite_loss"),
        (RuntimeError("shape mismatch"), None),
        (FileNotFoundError("x"), None),
    ],
)
def test_run_codes(error: Exception, code: str | None) -> None:
    failure = to_failure(error)
    assert (failure.code if failure else None) == code


@pytest.mark.parametrize(
    ("error", "last"),
    [(None, "message"), (Interrupted(3), "stopped"), (MemoryError(), "failure"), (RuntimeError("bug"), None)],
)
def test_main_prints_how_it_ended(
    capsys: pytest.CaptureFixture[str], error: Exception | None, last: str | None
) -> None:
    def phase(folder: Path, emit: run.Emit, stop: StopFlag) -> None:
        if error:
            raise error
        emit(Message(message="done"))

    if last is None:
        with pytest.raises(RuntimeError, match="bug"):
            run.main(Path(), phase)
        return
    assert run.main(Path(), phase) == 0
    assert run_events.parse_event(capsys.readouterr().out).type == last
    assert Stopped(step=1).type == "stopped"


def test_codes_are_closed() -> None:
    with pytest.raises(AssertionError):
        TrainingError("nonsense", "x")
    row_error = run_reports.DatasetError(code="json", line=3, field=None, message="Broken.")
    assert "training_file, line 3: Broken." in str(InvalidDataset([row_error], 1))
    assert all(len(advice) > 20 for advice in RUN_CODES.values())


def test_the_spec_is_read_as_it_was_written(tmp_path: Path, chat_base: Path) -> None:
    folder = create_run_folder(tmp_path / "a", chat_base, "chat", LORA, hyperparameters={"n_epochs": 2})
    spec = TrainSpec.read(folder)
    spec.write(folder)
    assert TrainSpec.read(folder) == spec

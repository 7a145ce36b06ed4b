"""Looking before training: the report equals what a run then does, and the shown rows are the rows it learns."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.training.run_folders import (
    CHAT_ROWS,
    LABEL_ROWS,
    LORA,
    EventRecorder,
    create_run_folder,
    run_training,
    to_jsonl,
)
from tests.training.sample_rows import SAMPLES
from training import preflight as looking
from training import run as runs
from training.errors import TrainingError
from training.run_events import Metrics, Preflight, PreviewRow, Started, Validated
from training.spec import PREVIEW_FILE
from training.trainer.state import StopFlag

HYPER = {"n_epochs": 2, "batch_size": 4, "learning_rate": 0.01}
FULL = {"type": "full"}


def _run_preflight(folder: Path) -> Preflight:
    lines = EventRecorder()
    looking.preflight(folder, lines, StopFlag())
    [found] = lines.events
    assert isinstance(found, Preflight)
    return found


def _run_preview(folder: Path, count: int = 3) -> list[PreviewRow]:
    (folder / PREVIEW_FILE).write_text(json.dumps({"rows": count}))
    lines = EventRecorder()
    looking.preview(folder, lines, StopFlag())
    assert all(isinstance(line, PreviewRow) for line in lines.events)
    return lines.of_type(PreviewRow)


@pytest.mark.parametrize(("method", "task"), SAMPLES)
def test_every_task_has_a_preflight_and_a_preview(
    method: str, task: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    sample = SAMPLES[method, task]
    update = LORA if "lora" not in sample.unsupported_updates else FULL
    folder = create_run_folder(
        tmp_path / "run",
        request.getfixturevalue(sample.base_fixture),
        task,
        update,
        method=method,
        training=sample.rows,
        hyperparameters=HYPER,
    )
    found = _run_preflight(folder)
    assert (found.error, found.faults, found.fault_count) == (None, [], 0)
    validated = EventRecorder()
    runs.validate(folder, validated)
    [line] = validated.of_type(Validated)
    assert found.plan is not None
    assert (found.plan.total_steps, found.plan.hyperparameters) == (line.total_steps, line.hyperparameters)
    read = found.files["training_file"]
    assert (read.rows, read.tokens) == (line.rows, line.tokens)
    assert found.plan.trainable_parameters
    rows = _run_preview(folder, 2)
    assert len(rows) == 2
    for row in rows:
        assert row.sequences or task == "image-classification"
        for sequence in row.sequences:
            assert sequence.length == len(sequence.tokens) > 0
            assert all(token.trained == (token.weight > 0) for token in sequence.tokens)


@pytest.mark.parametrize("update", [LORA, FULL, {"type": "layers", "last": 1}], ids=lambda update: update["type"])
def test_the_plan_is_what_training_does(update: dict[str, Any], tmp_path: Path, chat_base: Path) -> None:
    folder = create_run_folder(tmp_path / "run", chat_base, "chat", update, hyperparameters=HYPER)
    plan = _run_preflight(folder).plan
    assert plan is not None
    lines = run_training(folder)
    [started] = lines.of_type(Started)
    assert plan.trainable_parameters == started.trainable_parameters
    last = lines.of_type(Metrics)[-1]
    assert (plan.total_steps, plan.total_tokens) == (last.total_steps, last.tokens)
    assert plan.peak_memory_bytes.low < plan.peak_memory_bytes.expected < plan.peak_memory_bytes.high


def test_issues_of_all_files_are_reported_together(tmp_path: Path, chat_base: Path) -> None:
    bad = to_jsonl(CHAT_ROWS[:2]) + '{"messages": 3}\nnothing\n' + to_jsonl([{"message": []}])
    folder = create_run_folder(tmp_path / "run", chat_base, "chat", LORA, training=bad, validation="[1\n")
    found = _run_preflight(folder)
    assert found.plan is None
    assert found.error is not None
    assert (found.error.code, found.error.param) == ("invalid_dataset", "training_file")
    assert found.files["training_file"].rows == 2
    places = [(fault.file, fault.line) for fault in found.faults]
    assert {("training_file", 3), ("training_file", 4), ("training_file", 5)} < set(places)
    assert places[-1][0] == "validation_file"
    assert all(fault.message for fault in found.faults)
    assert found.fault_count == len(found.faults) == sum(one.fault_count for one in found.files.values())


def test_a_hundred_issues_are_reported_and_all_are_counted(tmp_path: Path, chat_base: Path) -> None:
    folder = create_run_folder(tmp_path / "run", chat_base, "chat", LORA, training="{}\n" * 130)
    found = _run_preflight(folder)
    assert (len(found.faults), found.fault_count) == (100, 130)


def test_rows_that_are_wrong_together(tmp_path: Path, encoder_base: Path) -> None:
    folder = create_run_folder(
        tmp_path / "run", encoder_base, "text-classification", FULL, training=[LABEL_ROWS[0]] * 3
    )
    found = _run_preflight(folder)
    assert found.error is not None
    assert "label" in found.error.message
    assert (found.faults, found.files["training_file"].rows) == ([], 3)


def test_an_update_that_does_not_fit_is_reported(tmp_path: Path, chat_base: Path) -> None:
    folder = create_run_folder(tmp_path / "run", chat_base, "chat", {"type": "lora", "target_modules": ["nowhere"]})
    found = _run_preflight(folder)
    assert found.error is not None
    assert found.error.param == "update"


def test_the_mask_of_a_conversation(tmp_path: Path, chat_base: Path) -> None:
    row = {
        "messages": [
            {"role": "user", "content": "Grüße?"},
            {"role": "assistant", "content": "No.", "weight": 0},
            {"role": "user", "content": "Why?"},
            {"role": "assistant", "content": "So."},
        ],
        "weight": 2.0,
    }
    folder = create_run_folder(tmp_path / "run", chat_base, "chat", LORA, training=[row, *CHAT_ROWS])
    shown = _run_preview(folder, 1)[0]
    assert (shown.line, shown.cut, shown.target) == (1, False, None)
    [sequence] = shown.sequences
    assert sequence.rendered == (
        "<|user|>Grüße?<|end|>\n<|assistant|>No.<|end|>\n<|user|>Why?<|end|>\n<|assistant|>So.<|end|>\n"
    )
    learnt = "".join(token.text for token in sequence.tokens if token.trained)
    assert learnt == "So.<|end|>"
    assert {token.weight for token in sequence.tokens} == {0.0, 2.0}


def test_labels_have_their_numbers(tmp_path: Path, encoder_base: Path) -> None:
    folder = create_run_folder(tmp_path / "run", encoder_base, "text-classification", FULL)
    apple, pear = _run_preview(folder, 2)
    assert apple.target == {"label": "apple", "id": 0}
    assert pear.target == {"label": "pear", "id": 1}
    assert apple.sequences[0].tokens[0].text == "[CLS]"


def test_a_preview_leaves_invalid_rows_out(tmp_path: Path, chat_base: Path) -> None:
    folder = create_run_folder(tmp_path / "run", chat_base, "chat", LORA, training="{}\n" + to_jsonl(CHAT_ROWS[:1]))
    [row] = _run_preview(folder)
    assert row.line == 2
    folder = create_run_folder(tmp_path / "bad", chat_base, "chat", LORA, training="{}\n")
    (folder / PREVIEW_FILE).write_text('{"rows": 1}')
    with pytest.raises(TrainingError, match="line 1"):
        looking.preview(folder, EventRecorder(), StopFlag())

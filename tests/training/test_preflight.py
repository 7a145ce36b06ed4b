"""Looking before training: the report equals what a run then does, and the shown rows are the rows it learns."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.training.run_folders import CHAT_ROWS, LABEL_ROWS, LORA, Lines, jsonl, make_folder, trained
from tests.training.sample_rows import SAMPLES
from training import preflight as looking
from training import run as runs
from training.errors import TrainingError
from training.run_events import Metrics, Preflight, PreviewRow, Started, Validated
from training.spec import PREVIEW
from training.trainer.state import Stop

HYPER = {"n_epochs": 2, "batch_size": 4, "learning_rate": 0.01}
FULL = {"type": "full"}


def _report(folder: Path) -> Preflight:
    lines = Lines()
    looking.preflight(folder, lines, Stop())
    [found] = lines.all
    assert isinstance(found, Preflight)
    return found


def _rows(folder: Path, count: int = 3) -> list[PreviewRow]:
    (folder / PREVIEW).write_text(json.dumps({"rows": count}))
    lines = Lines()
    looking.preview(folder, lines, Stop())
    assert all(isinstance(line, PreviewRow) for line in lines.all)
    return lines.of(PreviewRow)


@pytest.mark.parametrize(("method", "task"), SAMPLES)
def test_every_task_can_be_looked_at(method: str, task: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    sample = SAMPLES[method, task]
    update = LORA if "lora" not in sample.unfit else FULL
    folder = make_folder(
        tmp_path / "run",
        request.getfixturevalue(sample.base),
        task,
        update,
        method=method,
        training=sample.rows,
        hyperparameters=HYPER,
    )
    found = _report(folder)
    assert (found.error, found.faults, found.fault_count) == (None, [], 0)
    validated = Lines()
    runs.validate(folder, validated)
    [line] = validated.of(Validated)
    assert found.plan is not None
    assert (found.plan.total_steps, found.plan.hyperparameters) == (line.total_steps, line.hyperparameters)
    read = found.files["training_file"]
    assert (read.rows, read.tokens) == (line.rows, line.tokens)
    assert found.plan.trainable_parameters
    rows = _rows(folder, 2)
    assert len(rows) == 2
    for row in rows:
        assert row.sequences or task == "image-classification"
        for sequence in row.sequences:
            assert sequence.length == len(sequence.tokens) > 0
            assert all(token.trained == (token.weight > 0) for token in sequence.tokens)


@pytest.mark.parametrize("update", [LORA, FULL, {"type": "layers", "last": 1}], ids=lambda update: update["type"])
def test_the_plan_is_what_training_does(update: dict[str, Any], tmp_path: Path, chat_base: Path) -> None:
    folder = make_folder(tmp_path / "run", chat_base, "chat", update, hyperparameters=HYPER)
    plan = _report(folder).plan
    assert plan is not None
    lines = trained(folder)
    [started] = lines.of(Started)
    assert plan.trainable_parameters == started.trainable_parameters
    last = lines.of(Metrics)[-1]
    assert (plan.total_steps, plan.total_tokens) == (last.total_steps, last.tokens)
    assert plan.peak_memory_bytes.low < plan.peak_memory_bytes.expected < plan.peak_memory_bytes.high


def test_faults_of_all_files_at_once(tmp_path: Path, chat_base: Path) -> None:
    bad = jsonl(CHAT_ROWS[:2]) + '{"messages": 3}\nnothing\n' + jsonl([{"message": []}])
    folder = make_folder(tmp_path / "run", chat_base, "chat", LORA, training=bad, validation="[1\n")
    found = _report(folder)
    assert found.plan is None
    assert found.error is not None
    assert (found.error.code, found.error.param) == ("invalid_dataset", "training_file")
    assert found.files["training_file"].rows == 2
    places = [(fault.file, fault.line) for fault in found.faults]
    assert {("training_file", 3), ("training_file", 4), ("training_file", 5)} < set(places)
    assert places[-1][0] == "validation_file"
    assert all(fault.message for fault in found.faults)
    assert found.fault_count == len(found.faults) == sum(one.fault_count for one in found.files.values())


def test_a_hundred_faults_are_told_and_all_are_counted(tmp_path: Path, chat_base: Path) -> None:
    folder = make_folder(tmp_path / "run", chat_base, "chat", LORA, training="{}\n" * 130)
    found = _report(folder)
    assert (len(found.faults), found.fault_count) == (100, 130)


def test_rows_that_are_wrong_together(tmp_path: Path, encoder_base: Path) -> None:
    folder = make_folder(tmp_path / "run", encoder_base, "text-classification", FULL, training=[LABEL_ROWS[0]] * 3)
    found = _report(folder)
    assert found.error is not None
    assert "label" in found.error.message
    assert (found.faults, found.files["training_file"].rows) == ([], 3)


def test_an_update_that_does_not_fit_is_found_out(tmp_path: Path, chat_base: Path) -> None:
    folder = make_folder(tmp_path / "run", chat_base, "chat", {"type": "lora", "target_modules": ["nowhere"]})
    found = _report(folder)
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
    folder = make_folder(tmp_path / "run", chat_base, "chat", LORA, training=[row, *CHAT_ROWS])
    shown = _rows(folder, 1)[0]
    assert (shown.line, shown.cut, shown.target) == (1, False, None)
    [sequence] = shown.sequences
    assert sequence.rendered == (
        "<|user|>Grüße?<|end|>\n<|assistant|>No.<|end|>\n<|user|>Why?<|end|>\n<|assistant|>So.<|end|>\n"
    )
    learnt = "".join(token.text for token in sequence.tokens if token.trained)
    assert learnt == "So.<|end|>"
    assert {token.weight for token in sequence.tokens} == {0.0, 2.0}


def test_labels_have_their_numbers(tmp_path: Path, encoder_base: Path) -> None:
    folder = make_folder(tmp_path / "run", encoder_base, "text-classification", FULL)
    apple, pear = _rows(folder, 2)
    assert apple.target == {"label": "apple", "id": 0}
    assert pear.target == {"label": "pear", "id": 1}
    assert apple.sequences[0].tokens[0].text == "[CLS]"


def test_a_preview_leaves_bad_rows_out(tmp_path: Path, chat_base: Path) -> None:
    folder = make_folder(tmp_path / "run", chat_base, "chat", LORA, training="{}\n" + jsonl(CHAT_ROWS[:1]))
    [row] = _rows(folder)
    assert row.line == 2
    folder = make_folder(tmp_path / "bad", chat_base, "chat", LORA, training="{}\n")
    (folder / PREVIEW).write_text('{"rows": 1}')
    with pytest.raises(TrainingError, match="line 1"):
        looking.preview(folder, Lines(), Stop())

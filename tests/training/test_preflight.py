"""Tests that preflight reports and previews match the training run."""

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
from training import preflight as preflight_module
from training import run as runs
from training.errors import TrainingError
from training.run_events import DeviceReport, Metrics, Preflight, PreviewRow, Started, Validated
from training.spec import DEVICE_FILE, DEVICE_HYPERPARAMETERS, PREVIEW_FILE
from training.trainer.state import StopFlag

HYPER = {"n_epochs": 2, "batch_size": 4, "learning_rate": 0.01}
FULL = {"type": "full"}


def _run_preflight(folder: Path) -> Preflight:
    lines = EventRecorder()
    preflight_module.preflight(folder, lines, StopFlag())
    [report] = lines.events
    assert isinstance(report, Preflight)
    return report


def _run_preview(folder: Path, count: int = 3) -> list[PreviewRow]:
    (folder / PREVIEW_FILE).write_text(json.dumps({"rows": count}))
    lines = EventRecorder()
    preflight_module.preview(folder, lines, StopFlag())
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
    report = _run_preflight(folder)
    assert (report.error, report.faults, report.fault_count) == (None, [], 0)
    validated = EventRecorder()
    runs.validate(folder, validated)
    [line] = validated.of_type(Validated)
    assert report.plan is not None
    assert report.plan.total_steps == line.total_steps
    # The plan is for a device, which resolves the rest.
    kept = {name: value for name, value in line.hyperparameters.items() if value != "auto"}
    assert report.plan.hyperparameters == report.plan.hyperparameters | kept
    assert "auto" not in report.plan.hyperparameters.values()
    read = report.files["training_file"]
    assert (read.rows, read.tokens) == (line.rows, line.tokens)
    assert report.plan.trainable_parameters
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


def test_the_plan_is_for_the_reported_device(tmp_path: Path, chat_base: Path) -> None:
    """The API's machine may have no accelerator. Without a report, the plan says what it is for."""
    folder = create_run_folder(tmp_path / "run", chat_base, "chat", LORA, hyperparameters={"dtype": "auto"})
    assert preflight_module.UNKNOWN_DEVICE_WARNING in _run_preflight(folder).warnings
    gpu = DeviceReport(
        device_type="cuda",
        precisions=["bfloat16"],
        free_bytes=24e9,
        flops_per_second={"bfloat16": 1e14},
    )
    (folder / DEVICE_FILE).write_text(gpu.model_dump_json())
    report = _run_preflight(folder)
    assert report.plan is not None
    assert preflight_module.UNKNOWN_DEVICE_WARNING not in report.warnings
    assert report.plan.hyperparameters["dtype"] == "bfloat16"
    assert report.plan.tokens_per_second > 1e6
    memory = report.plan.peak_memory_bytes
    old = DeviceReport(device_type="cpu", precisions=["float32"], free_bytes=1e6, flops_per_second={"float32": 1e9})
    (folder / DEVICE_FILE).write_text(old.model_dump_json())
    smaller = _run_preflight(folder).plan
    assert smaller is not None
    # Nothing fits, so it is the smallest step.
    assert smaller.hyperparameters["gradient_checkpointing"] is True
    assert smaller.peak_memory_bytes.expected != memory.expected


def test_no_accelerator_is_touched_before_training(
    tmp_path: Path, chat_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Validation and preflight run under a limit of memory, beside processes that use the GPU."""

    def touch(*args: Any) -> bool:
        raise AssertionError("an accelerator was initialized")

    for target in ("torch.cuda.is_available", "torch.backends.mps.is_available", "torch.cuda.mem_get_info"):
        monkeypatch.setattr(target, touch)
    folder = create_run_folder(tmp_path / "run", chat_base, "chat", LORA, hyperparameters={"dtype": "auto"})
    validated = EventRecorder()
    runs.validate(folder, validated)
    [line] = validated.of_type(Validated)
    auto = {name for name, value in line.hyperparameters.items() if value == "auto"}
    assert auto == DEVICE_HYPERPARAMETERS
    assert _run_preflight(folder).error is None
    assert _run_preview(folder)


def test_issues_of_all_files_are_reported_together(tmp_path: Path, chat_base: Path) -> None:
    content = to_jsonl(CHAT_ROWS[:2]) + '{"messages": 3}\nnothing\n' + to_jsonl([{"message": []}])
    folder = create_run_folder(tmp_path / "run", chat_base, "chat", LORA, training=content, validation="[1\n")
    report = _run_preflight(folder)
    assert report.plan is None
    assert report.error is not None
    assert (report.error.code, report.error.param) == ("invalid_dataset", "training_file")
    assert report.files["training_file"].rows == 2
    locations = [(error.file, error.line) for error in report.faults]
    assert {("training_file", 3), ("training_file", 4), ("training_file", 5)} < set(locations)
    assert locations[-1][0] == "validation_file"
    assert all(error.message for error in report.faults)
    assert report.fault_count == len(report.faults) == sum(file.fault_count for file in report.files.values())


def test_a_hundred_issues_are_reported_and_all_are_counted(tmp_path: Path, chat_base: Path) -> None:
    folder = create_run_folder(tmp_path / "run", chat_base, "chat", LORA, training="{}\n" * 130)
    report = _run_preflight(folder)
    assert (len(report.faults), report.fault_count) == (100, 130)


def test_rows_that_are_invalid_together(tmp_path: Path, encoder_base: Path) -> None:
    folder = create_run_folder(
        tmp_path / "run", encoder_base, "text-classification", FULL, training=[LABEL_ROWS[0]] * 3
    )
    report = _run_preflight(folder)
    assert report.error is not None
    assert "label" in report.error.message
    assert (report.faults, report.files["training_file"].rows) == ([], 3)


def test_an_update_that_does_not_fit_is_reported(tmp_path: Path, chat_base: Path) -> None:
    folder = create_run_folder(tmp_path / "run", chat_base, "chat", {"type": "lora", "target_modules": ["nowhere"]})
    report = _run_preflight(folder)
    assert report.error is not None
    assert report.error.param == "update"


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
    preview = _run_preview(folder, 1)[0]
    assert (preview.line, preview.cut, preview.target) == (1, False, None)
    [sequence] = preview.sequences
    assert sequence.rendered == (
        "<|user|>Grüße?<|end|>\n<|assistant|>No.<|end|>\n<|user|>Why?<|end|>\n<|assistant|>So.<|end|>\n"
    )
    trained_text = "".join(token.text for token in sequence.tokens if token.trained)
    assert trained_text == "So.<|end|>"
    assert {token.weight for token in sequence.tokens} == {0.0, 2.0}


def test_a_preview_shows_label_ids(tmp_path: Path, encoder_base: Path) -> None:
    folder = create_run_folder(tmp_path / "run", encoder_base, "text-classification", FULL)
    apple, pear = _run_preview(folder, 2)
    assert apple.target == {"label": "apple", "id": 0}
    assert pear.target == {"label": "pear", "id": 1}
    assert apple.sequences[0].tokens[0].text == "[CLS]"


def test_a_preview_excludes_invalid_rows(tmp_path: Path, chat_base: Path) -> None:
    folder = create_run_folder(tmp_path / "run", chat_base, "chat", LORA, training="{}\n" + to_jsonl(CHAT_ROWS[:1]))
    [row] = _run_preview(folder)
    assert row.line == 2
    folder = create_run_folder(tmp_path / "bad", chat_base, "chat", LORA, training="{}\n")
    (folder / PREVIEW_FILE).write_text('{"rows": 1}')
    with pytest.raises(TrainingError, match="line 1"):
        preflight_module.preview(folder, EventRecorder(), StopFlag())

"""Tests that stopped and resumed runs produce the same bytes and metrics as uninterrupted runs."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.training.run_folders import FULL, LORA, TASK_ROWS, EventRecorder, create_run_folder, hash_files, run_training
from training import run, run_events
from training.errors import Interrupted
from training.run_events import Checkpoint, Metrics, Result
from training.trainer.state import StopFlag

pytestmark = pytest.mark.integration

CASES = [
    ("chat", "chat_base", LORA),
    ("chat", "chat_base", FULL),
    ("text-classification", "encoder_base", LORA),
    ("text-classification", "encoder_base", FULL),
]
HYPER = {"n_epochs": 2, "batch_size": 4, "gradient_accumulation_steps": 2, "label_smoothing": 0.1}


class StopAtStep(EventRecorder):
    """Event recorder that requests a stop when it receives the metrics of a step."""

    def __init__(self, step: int) -> None:
        super().__init__()
        self.step = step
        self.stop = StopFlag()

    def __call__(self, event: run_events.RunEvent) -> None:
        super().__call__(event)
        if isinstance(event, Metrics) and event.step == self.step:
            self.stop.requested = True


@pytest.mark.parametrize(("task", "base", "update"), CASES)
def test_stopping_at_every_step_changes_no_bit(
    tmp_path: Path, task: str, base: str, update: Any, request: pytest.FixtureRequest
) -> None:
    def folder(name: str) -> Path:
        rows = TASK_ROWS[task]
        directory = request.getfixturevalue(base)
        return create_run_folder(tmp_path / name, directory, task, update, validation=rows, hyperparameters=HYPER)

    whole = run_training(folder("whole"))
    [result] = whole.of_type(Result)
    assert result.step >= 6
    for step in range(1, result.step):
        first, second = folder(f"{step}-first"), folder(f"{step}-second")
        lines = StopAtStep(step)
        with pytest.raises(Interrupted) as interrupted:
            run.train(first, lines, lines.stop)
        assert interrupted.value.step == step
        shutil.copytree(first / lines.of_type(Checkpoint)[-1].path, second / "resume")
        rest = run_training(second)
        assert hash_files(second / "result") == hash_files(tmp_path / "whole/result")
        assert rest.of_type(Result)[0].resume_proof == result.resume_proof
        assert rest.of_type(Result)[0].trained_tokens == result.trained_tokens
        assert lines.clock_independent_metrics + rest.clock_independent_metrics == whole.clock_independent_metrics
        shutil.rmtree(second)


@pytest.mark.parametrize("threads", [1, 2])
def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(
    tmp_path: Path, encoder_base: Path, threads: int
) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        folder = create_run_folder(
            tmp_path / name,
            encoder_base,
            "text-classification",
            LORA,
            seed=seed,
            threads=threads,
            hyperparameters={"n_epochs": 1},
        )
        run_training(folder)
    assert hash_files(tmp_path / "a/result") == hash_files(tmp_path / "b/result")
    weights = "adapter_model.safetensors"
    assert hash_files(tmp_path / "a/result")[weights] != hash_files(tmp_path / "c/result")[weights]


def test_when_checkpoints_are_written_changes_nothing(tmp_path: Path, chat_base: Path) -> None:
    rare = create_run_folder(tmp_path / "rare", chat_base, "chat", LORA, save_seconds=1e9)
    often = create_run_folder(tmp_path / "often", chat_base, "chat", LORA, save_seconds=0)
    assert len(run_training(rare).of_type(Checkpoint)) < len(run_training(often).of_type(Checkpoint))
    assert hash_files(rare / "result") == hash_files(often / "result")


def test_a_finished_runs_last_checkpoint_gives_its_result(tmp_path: Path, chat_base: Path) -> None:
    first = create_run_folder(tmp_path / "first", chat_base, "chat", LORA, hyperparameters=HYPER)
    lines = run_training(first)
    last = lines.of_type(Checkpoint)[-1]
    assert (last.step, last.keep) == (lines.of_type(Result)[0].step, True)
    second = create_run_folder(tmp_path / "second", chat_base, "chat", LORA, hyperparameters=HYPER)
    shutil.copytree(first / last.path, second / "resume")
    rest = run_training(second)
    assert rest.of_type(Metrics) == []
    assert hash_files(second / "result") == hash_files(first / "result") == hash_files(first / last.path / "model")
    assert rest.of_type(Result) == lines.of_type(Result)


def test_a_checkpoint_is_safetensors_and_json_and_none_is_incomplete(tmp_path: Path, chat_base: Path) -> None:
    folder = create_run_folder(tmp_path / "run", chat_base, "chat", LORA, hyperparameters=HYPER)
    run_training(folder)
    suffixes = {path.suffix for path in (folder / "checkpoints").rglob("*") if path.is_file()}
    assert suffixes == {".safetensors", ".json"}
    assert all(path.name.startswith("step-") for path in (folder / "checkpoints").iterdir())


def spawn_run(folder: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "training.run", str(folder)]
    env = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONHASHSEED": "random"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)


def read_events(process: subprocess.Popen[str]) -> Iterator[run_events.RunEvent]:
    assert process.stdout
    for line in process.stdout:
        yield run_events.parse_event(line)


@pytest.mark.parametrize(
    ("task", "base", "update", "sig"),
    [("chat", "chat_base", LORA, signal.SIGKILL), ("text-classification", "encoder_base", FULL, signal.SIGTERM)],
)
def test_a_real_process_killed_and_resumed(
    tmp_path: Path, task: str, base: str, update: Any, sig: signal.Signals, request: pytest.FixtureRequest
) -> None:
    def folder(name: str) -> Path:
        directory = request.getfixturevalue(base)
        hyper = {"n_epochs": 12, "batch_size": 4}
        return create_run_folder(tmp_path / name, directory, task, update, hyperparameters=hyper, save_seconds=0)

    whole = run_training(folder("whole"))
    with spawn_run(folder("first")) as process:
        checkpoints = []
        for line in read_events(process):
            if isinstance(line, Checkpoint):
                checkpoints.append(line)
            if len(checkpoints) == 2:
                process.send_signal(sig)
                break
        rest = list(read_events(process))
        code = process.wait()
    assert code == (0 if sig == signal.SIGTERM else -sig)
    if sig == signal.SIGTERM:
        assert rest[-1].type == "stopped"
        checkpoints += [line for line in rest if isinstance(line, Checkpoint)]
        assert checkpoints[-1].step == rest[-1].step  # type: ignore[union-attr]
    second = folder("second")
    shutil.copytree(tmp_path / "first" / checkpoints[-1].path, second / "resume")
    [result] = run_training(second).of_type(Result)
    assert result.resume_proof == whole.of_type(Result)[0].resume_proof
    assert hash_files(second / "result") == hash_files(tmp_path / "whole/result")


def test_the_command_validates(tmp_path: Path, chat_base: Path) -> None:
    folder = create_run_folder(tmp_path / "run", chat_base, "chat", LORA, training='{"messages": []}\n')
    command = [sys.executable, "-m", "training.run", str(folder), "--validate"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    *_, line = done.stdout.splitlines()
    assert json.loads(line)["code"] == "invalid_dataset"
    assert done.stderr == ""

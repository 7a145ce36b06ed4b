"""A run that was stopped or killed and goes on gives the bytes and figures of one that was not."""

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

from tests.training.run_folders import FULL, LORA, TASK_ROWS, Lines, hashes, make_folder, trained
from training import run, run_events
from training.errors import Interrupted
from training.run_events import Checkpoint, Metrics, Result
from training.trainer.state import Stop

CASES = [
    ("chat", "chat_base", LORA),
    ("chat", "chat_base", FULL),
    ("text-classification", "encoder_base", LORA),
    ("text-classification", "encoder_base", FULL),
]
HYPER = {"n_epochs": 2, "batch_size": 4, "gradient_accumulation_steps": 2, "label_smoothing": 0.1}


class StopAt(Lines):
    """Asks the run to stop when it tells of a step."""

    def __init__(self, step: int) -> None:
        super().__init__()
        self.step = step
        self.stop = Stop()

    def __call__(self, line: run_events.Line) -> None:
        super().__call__(line)
        if isinstance(line, Metrics) and line.step == self.step:
            self.stop.requested = True


@pytest.mark.parametrize(("task", "base", "update"), CASES)
def test_stopping_at_every_step_changes_no_bit(
    tmp_path: Path, task: str, base: str, update: Any, request: pytest.FixtureRequest
) -> None:
    def folder(name: str) -> Path:
        rows = TASK_ROWS[task]
        directory = request.getfixturevalue(base)
        return make_folder(tmp_path / name, directory, task, update, validation=rows, hyperparameters=HYPER)

    whole = trained(folder("whole"))
    [result] = whole.of(Result)
    assert result.step >= 6
    for step in range(1, result.step):
        first, second = folder(f"{step}-first"), folder(f"{step}-second")
        lines = StopAt(step)
        with pytest.raises(Interrupted) as left:
            run.train(first, lines, lines.stop)
        assert left.value.step == step
        shutil.copytree(first / lines.of(Checkpoint)[-1].path, second / "resume")
        rest = trained(second)
        assert hashes(second / "result") == hashes(tmp_path / "whole/result")
        assert rest.of(Result)[0].resume_proof == result.resume_proof
        assert rest.of(Result)[0].trained_tokens == result.trained_tokens
        assert lines.numbers + rest.numbers == whole.numbers
        shutil.rmtree(second)


@pytest.mark.parametrize("threads", [1, 2])
def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(
    tmp_path: Path, encoder_base: Path, threads: int
) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        folder = make_folder(
            tmp_path / name,
            encoder_base,
            "text-classification",
            LORA,
            seed=seed,
            threads=threads,
            hyperparameters={"n_epochs": 1},
        )
        trained(folder)
    assert hashes(tmp_path / "a/result") == hashes(tmp_path / "b/result")
    weights = "adapter_model.safetensors"
    assert hashes(tmp_path / "a/result")[weights] != hashes(tmp_path / "c/result")[weights]


def test_when_checkpoints_are_written_changes_nothing(tmp_path: Path, chat_base: Path) -> None:
    rare = make_folder(tmp_path / "rare", chat_base, "chat", LORA, save_seconds=1e9)
    often = make_folder(tmp_path / "often", chat_base, "chat", LORA, save_seconds=0)
    assert len(trained(rare).of(Checkpoint)) < len(trained(often).of(Checkpoint))
    assert hashes(rare / "result") == hashes(often / "result")


def test_a_finished_runs_last_checkpoint_gives_its_result(tmp_path: Path, chat_base: Path) -> None:
    first = make_folder(tmp_path / "first", chat_base, "chat", LORA, hyperparameters=HYPER)
    lines = trained(first)
    last = lines.of(Checkpoint)[-1]
    assert (last.step, last.keep) == (lines.of(Result)[0].step, True)
    second = make_folder(tmp_path / "second", chat_base, "chat", LORA, hyperparameters=HYPER)
    shutil.copytree(first / last.path, second / "resume")
    rest = trained(second)
    assert rest.of(Metrics) == []
    assert hashes(second / "result") == hashes(first / "result") == hashes(first / last.path / "model")
    assert rest.of(Result) == lines.of(Result)


def test_a_checkpoint_is_safetensors_and_json_and_no_half_one_is_seen(tmp_path: Path, chat_base: Path) -> None:
    folder = make_folder(tmp_path / "run", chat_base, "chat", LORA, hyperparameters=HYPER)
    trained(folder)
    suffixes = {path.suffix for path in (folder / "checkpoints").rglob("*") if path.is_file()}
    assert suffixes == {".safetensors", ".json"}
    assert all(path.name.startswith("step-") for path in (folder / "checkpoints").iterdir())


def spawn(folder: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "training.run", str(folder)]
    env = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONHASHSEED": "random"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)


def lines_of(process: subprocess.Popen[str]) -> Iterator[run_events.Line]:
    assert process.stdout
    for line in process.stdout:
        yield run_events.parse(line)


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
        return make_folder(tmp_path / name, directory, task, update, hyperparameters=hyper, save_seconds=0)

    whole = trained(folder("whole"))
    with spawn(folder("first")) as process:
        written = []
        for line in lines_of(process):
            if isinstance(line, Checkpoint):
                written.append(line)
            if len(written) == 2:
                process.send_signal(sig)
                break
        rest = list(lines_of(process))
        code = process.wait()
    assert code == (0 if sig == signal.SIGTERM else -sig)
    if sig == signal.SIGTERM:
        assert rest[-1].type == "stopped"
        written += [line for line in rest if isinstance(line, Checkpoint)]
        assert written[-1].step == rest[-1].step  # type: ignore[union-attr]
    second = folder("second")
    shutil.copytree(tmp_path / "first" / written[-1].path, second / "resume")
    [result] = trained(second).of(Result)
    assert result.resume_proof == whole.of(Result)[0].resume_proof
    assert hashes(second / "result") == hashes(tmp_path / "whole/result")


def test_the_command_validates(tmp_path: Path, chat_base: Path) -> None:
    folder = make_folder(tmp_path / "run", chat_base, "chat", LORA, training='{"messages": []}\n')
    command = [sys.executable, "-m", "training.run", str(folder), "--validate"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    [line] = done.stdout.splitlines()
    assert json.loads(line)["code"] == "invalid_dataset"
    assert done.stderr == ""

"""Full-length equality tests, run by ``make test-long``."""

from __future__ import annotations

import random
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.training.run_folders import EventRecorder, create_run_folder, hash_files, run_training
from tests.training.sample_rows import SAMPLES
from tests.training.test_matrix import CASES, HYPER, UPDATE_ROWS
from tests.training.trainer.test_resume import StopAtStep, read_events, spawn_run
from training import run as runs
from training.errors import Interrupted
from training.run_events import Checkpoint, Result

SHARED = Path(__file__).parents[4] / "shared"
STORIES = SHARED / "models" / "stories260k"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


@pytest.mark.parametrize(("method", "task", "update", "dtype"), CASES)
def test_stopped_at_every_step(
    tmp_path: Path, method: str, task: str, update: str, dtype: str, request: pytest.FixtureRequest
) -> None:
    sample = SAMPLES[method, task]
    hyper = {**HYPER, "dtype": dtype, "n_epochs": 3, "early_stopping_patience": 2}

    def folder(name: str) -> Path:
        rows = {"training": sample.rows, "validation": sample.rows[:5], "method": method, "hyperparameters": hyper}
        return create_run_folder(
            tmp_path / name, request.getfixturevalue(sample.base_fixture), task, UPDATE_ROWS[update], **rows
        )

    whole = run_training(folder("whole"))
    [result] = whole.of_type(Result)
    last_step = result.resume_proof["step"]
    assert last_step >= 4
    for step in range(1, last_step):
        first, second = folder(f"{step}-first"), folder(f"{step}-second")
        lines = StopAtStep(step)
        with pytest.raises(Interrupted):
            runs.train(first, lines, lines.stop)
        shutil.copytree(first / lines.of_type(Checkpoint)[-1].path, second / "resume")
        rest = run_training(second)
        assert hash_files(second / "result") == hash_files(tmp_path / "whole/result"), step
        assert lines.clock_independent_metrics + rest.clock_independent_metrics == whole.clock_independent_metrics
        assert rest.of_type(Result) == [result]
        shutil.rmtree(first)
        shutil.rmtree(second)


@pytest.mark.skipif(not STORIES.exists(), reason="the shared model is missing")
@pytest.mark.parametrize("update", ["lora", "full", "layers"])
def test_killed_at_random_points_of_a_longer_run(tmp_path: Path, update: str) -> None:
    """Kills a real process at random points until a run finishes."""
    stories = (SHARED / "data/tinystories/tinystories_sample.txt").read_text().split("<|endoftext|>")
    rows = [{"text": story.strip()[:600]} for story in stories[:200]]
    hyper = {"n_epochs": 3, "batch_size": 4, "max_length": 128, "validation_share": 0.1, "early_stopping_patience": 50}
    generator = random.Random(update)

    def folder(name: str) -> Path:
        changes: Any = {"training": rows, "hyperparameters": hyper, "save_seconds": 0.2}
        return create_run_folder(tmp_path / name, STORIES, "completion", UPDATE_ROWS[update], **changes)

    whole = run_training(folder("whole"))
    [result] = whole.of_type(Result)
    resume: Path | None = None
    kills = 0
    for attempt in range(40):
        attempt_folder = folder(f"attempt{attempt}")
        if resume:
            shutil.copytree(resume, attempt_folder / "resume")
        lines = EventRecorder()
        remaining_events = generator.randrange(2, 25) if kills < 10 else 10**9
        with spawn_run(attempt_folder) as process:
            for line in read_events(process):
                lines(line)
                remaining_events -= 1
                if remaining_events == 0:
                    process.send_signal(signal.SIGKILL)
        kills += process.returncode == -signal.SIGKILL
        checkpoints = lines.of_type(Checkpoint)
        resume = attempt_folder / checkpoints[-1].path if checkpoints else resume
        if lines.of_type(Result):
            break
    assert kills >= 10
    assert lines.of_type(Result)[0].resume_proof == result.resume_proof
    assert hash_files(attempt_folder / "result") == hash_files(tmp_path / "whole/result")

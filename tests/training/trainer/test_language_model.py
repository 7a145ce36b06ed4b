"""A LoRA run on SmolLM2-135M: a real language model with its own tokenizer and template."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests import smollm2
from tests.training.run_folders import create_run_folder, hash_files, run_training
from tests.training.trainer.test_resume import StopAtStep
from training import run
from training.errors import Interrupted
from training.run_events import Checkpoint, Result

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

DATA = Path(__file__).parents[3] / "examples" / "data"
HYPER = {"n_epochs": 1, "batch_size": 8}
NUM_TRAINING_ROWS, NUM_HELD_OUT_ROWS = 48, 16
STOP_STEP = 3


@pytest.fixture(scope="session")
def smollm2_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SmolLM2-135M-Instruct; the conversion takes half a minute."""
    return smollm2.convert(tmp_path_factory.mktemp("bases") / "smollm2")


def read_rows(name: str, count: int) -> list[dict[str, Any]]:
    lines = (DATA / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()[:count]
    return [json.loads(line) for line in lines]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_resumed_run_equals_the_unbroken_one_and_learns(tmp_path: Path, smollm2_base: Path, dtype: str) -> None:
    def folder(name: str) -> Path:
        changes: Any = {
            "training": read_rows("chat_train", NUM_TRAINING_ROWS),
            "validation": read_rows("chat_heldout", NUM_HELD_OUT_ROWS),
            "hyperparameters": {**HYPER, "dtype": dtype},
            "threads": 2,
        }
        return create_run_folder(tmp_path / name, smollm2_base, "chat", {"type": "lora", "rank": 16}, **changes)

    [result] = run_training(folder("whole")).of_type(Result)
    assert result.step > STOP_STEP + 1
    assert result.metrics["valid_loss"] < 0.8 * result.metrics["valid_loss_before"]
    first, second = folder("first"), folder("second")
    lines = StopAtStep(STOP_STEP)
    with pytest.raises(Interrupted):
        run.train(first, lines, lines.stop)
    shutil.copytree(first / lines.of_type(Checkpoint)[-1].path, second / "resume")
    assert run_training(second).of_type(Result) == [result]
    assert hash_files(second / "result") == hash_files(tmp_path / "whole/result")

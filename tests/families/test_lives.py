"""Tests that a model of every family trains, resumes, saves, loads, merges and serves, for every
task that fits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.families.catalog import DECODERS
from tests.families.encoders import ENCODERS
from tests.families.lifecycle import UPDATES, Case, check_life
from tests.training.run_folders import CHAT_ROWS, LABEL_ROWS
from tests.training.sample_rows import COMPLETION_ROWS, SAMPLES
from training.models.support import check_base
from training.tasks import TASKS
from training.tasks.chat_format.rows import Message

pytestmark = [
    pytest.mark.integration,
    pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning"),
]

CHAT_PROMPTS = [
    [Message(role="user", content="What is number 3?")],
    [Message(role="user", content="What is number 8? Please. Please.")],
    [Message(role="user", content="And number 1, in a longer question than the others?")],
]
ROWS: dict[str, tuple[list[Any], list[Any]]] = {
    "chat": (CHAT_ROWS, CHAT_PROMPTS),
    "completion": (COMPLETION_ROWS, ["3 and 3 make", "Once", "8 and 8"]),
    "text-classification": (LABEL_ROWS, [{"text": "apple pie"}, {"text": "a pear and another one, and one more"}]),
}
FAMILIES = {**DECODERS, **ENCODERS}
SAMPLE_UPDATES = {"chat": "lora", "completion": "lora", "seq2seq": "full", "image-classification": "lora"}


def list_cases() -> list[Any]:
    """List all cases. One for each family is part of the sample that `make test` runs."""
    cases = []
    for name, family in FAMILIES.items():
        for task in family.tasks:
            for update in UPDATES:
                if update in TASKS[task].updates:
                    is_sample = task == family.tasks[0] and update == SAMPLE_UPDATES.get(task, "lora")
                    marks = () if is_sample else (pytest.mark.slow,)
                    cases.append(pytest.param(name, task, update, id=f"{name}-{task}-{update}", marks=marks))
    return cases


@pytest.mark.parametrize(("name", "task", "update"), list_cases())
def test_a_model_lives(tmp_path: Path, name: str, task: str, update: str) -> None:
    rows, inputs = ROWS.get(task) or (SAMPLES["supervised", task].rows, SAMPLES["supervised", task].inputs)
    check_life(Case(FAMILIES[name].create_base(tmp_path / "base"), task, update, rows, inputs, tmp_path))


@pytest.mark.parametrize(
    "name", [name if name == "qwen3-moe" else pytest.param(name, marks=pytest.mark.slow) for name in FAMILIES]
)
def test_a_model_lives_on_a_base_in_4_bits(tmp_path: Path, name: str) -> None:
    family = FAMILIES[name]
    task = family.tasks[0]
    rows, inputs = ROWS.get(task) or (SAMPLES["supervised", task].rows, SAMPLES["supervised", task].inputs)
    check_life(Case(family.create_base(tmp_path / "base"), task, "qlora", rows, inputs, tmp_path))


@pytest.mark.parametrize(
    ("name", "task", "reason"),
    [(name, task, reason) for name, family in FAMILIES.items() for task, reason in family.refused.items()],
)
def test_a_refused_task_names_the_reason(tmp_path: Path, name: str, task: str, reason: str) -> None:
    reasons = check_base(FAMILIES[name].create_base(tmp_path / "base"), TASKS[task])
    assert any(reason in text for text in reasons), reasons

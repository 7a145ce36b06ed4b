"""Tests for rules of the package: imports, banned words, file sizes, and tables."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import TypeAdapter, ValidationError

from training.tasks import TASKS
from training.updates import UPDATES, Update

PACKAGE = Path(__file__).parents[2] / "training"
TORCH_FREE_MODULES = [
    "spec",
    "run_events",
    "errors",
    "tasks",
    "updates",
    "readers.rows",
    "data.dataset",
    "estimate",
    "hyperparameters.auto",
    "hyperparameters.device_fit",
    "hyperparameters.host_memory",
    "models.base_model",
    "models.step_memory",
]


def test_modules_that_the_api_imports_do_not_load_torch() -> None:
    imports = "; ".join(f"import training.{name}" for name in TORCH_FREE_MODULES)
    check = "import sys; assert not {'torch', 'transformers', 'peft', 'numpy'} & set(sys.modules), 'heavy'"
    subprocess.run([sys.executable, "-c", f"{imports}; {check}"], check=True)


@pytest.mark.parametrize("word", ["torch.load", "pickle", "trust_remote_code=True", "os.environ", "splitlines"])
def test_words_that_never_occur(word: str) -> None:
    assert [path.name for path in PACKAGE.rglob("*.py") if word in path.read_text()] == []


def test_files_fit_on_a_few_screens() -> None:
    assert [path.name for path in PACKAGE.rglob("*.py") if len(path.read_text().splitlines()) > 300] == []
    assert len((PACKAGE / "run.py").read_text().splitlines()) < 100


def test_tables() -> None:
    assert len(TASKS) >= 9
    assert all(set(task.updates) <= set(UPDATES) for task in TASKS.values())
    assert all(task.row_schema.__doc__ and task.title for task in TASKS.values())
    schema = TypeAdapter(Update).json_schema()
    assert set(schema["discriminator"]["mapping"]) == set(UPDATES)


@pytest.mark.parametrize(
    "update",
    [
        {},
        {"type": "nothing"},
        {"type": "full", "rank": 3},
        {"type": "lora", "rank": 0},
        {"type": "lora", "rank": 513},
        {"type": "lora", "rank": "16"},
        {"type": "lora", "alpha": 0},
        {"type": "lora", "alpha": float("nan")},
        {"type": "lora", "dropout": 1.0},
        {"type": "lora", "target_modules": []},
        {"type": "lora", "target_modules": ["a/b"]},
        {"type": "lora", "target_modules": "some"},
        {"type": "lora", "target_modules": ["q"] * 65},
        {"type": "lora", "extra": 1},
    ],
)
def test_updates_out_of_bounds(update: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(Update).validate_python(update)

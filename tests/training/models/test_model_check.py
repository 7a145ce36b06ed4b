"""Tests that a trial of a base model reports what a job on it would meet."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.families.catalog import DECODERS
from training.errors import TrainingError
from training.model_check import ModelCheck
from training.models.base_model import read_base_model_info
from training.models.support import check_base
from training.sample_rows import SAMPLE_ROWS
from training.tasks import TASKS

pytestmark = pytest.mark.integration


def run_check(base: Path, tasks: list[str], scratch: Path) -> dict[str, tuple[str, str]]:
    scratch.mkdir()
    results = ModelCheck(base, "tiny", tasks, None, scratch).iter_results()
    return {result.name: (result.status, result.detail) for result in results}


def test_every_task_has_sample_rows() -> None:
    assert SAMPLE_ROWS.keys() == TASKS.keys()


def test_a_model_that_can_do_everything_passes(tmp_path: Path) -> None:
    base = DECODERS["qwen3"].create_base(tmp_path / "base")
    results = run_check(base, ["chat", "text-classification"], tmp_path / "scratch")
    assert {status for status, _ in results.values()} == {"passed"}
    assert {"template: tools", "template: reasoning", "chat, lora", "text-classification, head"} <= results.keys()
    assert "GB free" in results["chat, lora"][1]
    assert "2 steps of LoRA" in results["chat, training"][1]
    assert "RMS norm in 9 layers" in results["chat, training"][1]


def test_a_template_without_tools_and_reasoning_is_noted(tmp_path: Path, chat_base: Path) -> None:
    results = run_check(chat_base, ["chat"], tmp_path / "scratch")
    assert {name for name, (status, _) in results.items() if status == "noted"} == {
        "template: tools",
        "template: reasoning",
    }
    assert "does not support tools" in results["template: tools"][1]


@pytest.mark.parametrize(("task", "fixture"), [("seq2seq", "seq2seq_base"), ("image-classification", "vision_base")])
def test_other_kinds_of_models_are_tried(
    tmp_path: Path, request: pytest.FixtureRequest, task: str, fixture: str
) -> None:
    results = run_check(request.getfixturevalue(fixture), [task], tmp_path / "scratch")
    assert results[f"{task}, training"][0] == "passed", results


def test_weights_that_do_not_fit_the_config_fail(tmp_path: Path) -> None:
    base = DECODERS["llama-3"].create_base(tmp_path / "base")
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps(config | {"intermediate_size": 40}))
    status, detail = run_check(base, ["completion"], tmp_path / "scratch")["completion, training"]
    assert status == "failed"
    assert detail


def test_a_config_that_contradicts_itself_is_refused(tmp_path: Path) -> None:
    base = DECODERS["llama-3"].create_base(tmp_path / "base")
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps(config | {"num_attention_heads": 3}))
    [reason] = check_base(base, TASKS["completion"])
    assert "cannot read its config.json" in reason
    with pytest.raises(TrainingError, match=r"cannot read its config\.json") as error:
        read_base_model_info(base, "tiny", TASKS["completion"])
    assert error.value.code == "base_model_unavailable"

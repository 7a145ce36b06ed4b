"""Tests for updates: changed tensors, saved files, and compatibility with other libraries."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from tests.devices import DEVICE, to_device
from tests.training.run_folders import Row, create_run_folder, run_training
from tests.training.step_probe import FinishedRun, collect_tensors, run_to_completion
from training.artifacts import serving
from training.errors import TrainingError
from training.trainer.setup import build_started_event
from training.updates.lora import LoraUpdate

pytestmark = pytest.mark.integration

RANK = 4
BASES = {"chat": "chat_base", "text-classification": "encoder_base"}
UPDATES: dict[str, Row] = {
    "lora": {"type": "lora", "rank": RANK, "dropout": 0.1},
    "rslora": {"type": "lora", "rank": RANK, "rslora": True},
    "dora": {"type": "lora", "rank": RANK, "dora": True},
    "full": {"type": "full"},
    "head": {"type": "head"},
    "layers": {"type": "layers", "last": 1},
}
CASES = [(task, update) for task in BASES for update in UPDATES if (task, update) != ("chat", "head")]
HYPER = {"n_epochs": 3, "batch_size": 4, "learning_rate": 0.01}

POOLER_AND_HEAD = {
    *(f"bert.pooler.dense.{part}" for part in ("weight", "bias")),
    *(f"classifier.{part}" for part in ("weight", "bias")),
}


@pytest.fixture(scope="module")
def finished_runs(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> dict[tuple[str, str], tuple[Path, FinishedRun]]:
    runs = {}
    for task, update in CASES:
        base = request.getfixturevalue(BASES[task])
        folder = tmp_path_factory.mktemp("runs") / f"{task}-{update}"
        create_run_folder(folder, base, task, UPDATES[update], hyperparameters=HYPER)
        finished = run_to_completion(folder)
        (folder / "saved").mkdir()
        finished.run.write_model(folder / "saved")
        runs[task, update] = (folder / "saved", finished)
    return runs


def select_trained_names(task: str, update: str, names: set[str]) -> set[str]:
    """Return the names of the tensors that are trained according to the documentation."""
    adapters = {name for name in names if ".lora_" in name}
    if update == "full":
        return names
    if task == "chat":
        last = {name for name in names if name.startswith("model.layers.1.")} | {"model.norm.weight"}
        return last if update == "layers" else adapters
    if update in ("head", "layers"):
        blocks = {name for name in names if name.startswith("bert.encoder.layer.1.")}
        return POOLER_AND_HEAD | (blocks if update == "layers" else set())
    return adapters | {f"base_model.model.classifier.modules_to_save.default.{part}" for part in ("weight", "bias")}


@pytest.mark.parametrize(("task", "update"), CASES)
def test_the_named_tensors_move_and_no_other(
    finished_runs: dict[tuple[str, str], tuple[Path, FinishedRun]], task: str, update: str
) -> None:
    """Checks all parameters and buffers, saved or not; a tied weight under one of its names."""
    _, finished = finished_runs[task, update]
    model = finished.run.model
    expected = select_trained_names(task, update, {name for name, _ in model.named_parameters()})
    assert expected
    assert set(finished.run.trainable_parameters) == expected
    doubles = collect_tensors(model).keys() - {name for name, _ in [*model.named_parameters(), *model.named_buffers()]}
    assert finished.changed_tensors - doubles == expected
    assert finished.run.running_stats == {}


@pytest.mark.parametrize(("task", "update"), CASES)
def test_trainable_parameters_are_reported(
    finished_runs: dict[tuple[str, str], tuple[Path, FinishedRun]], task: str, update: str
) -> None:
    _, finished = finished_runs[task, update]
    event = build_started_event(finished.run, 0)
    assert event.trainable_parameters == sum(
        finished.initial_tensors[name].numel() for name in finished.run.trainable_parameters
    )
    if (task, update) == ("text-classification", "lora"):
        # Both blocks have four square layers, one up, one down. The pooler has an adapter too, and
        # the head is trained in full.
        layers = 2 * (4 * (32 + 32) + (32 + 64) + (64 + 32)) + (32 + 32)
        assert event.trainable_parameters == RANK * layers + 2 * 32 + 2


def compute_logits(model: Any, finished: FinishedRun) -> torch.Tensor:
    task, ctx = finished.run.task, finished.run.context
    ids = to_device(task.collate(finished.run.splits.training[:1], ctx))["input_ids"]
    with torch.inference_mode():
        logits: torch.Tensor = model(input_ids=ids).logits
    return logits


@pytest.mark.parametrize(("task", "update"), CASES)
def test_stock_libraries_load_saved_models(
    finished_runs: dict[tuple[str, str], tuple[Path, FinishedRun]],
    task: str,
    update: str,
    request: pytest.FixtureRequest,
) -> None:
    saved, finished = finished_runs[task, update]
    auto = AutoModelForCausalLM if task == "chat" else AutoModelForSequenceClassification
    if isinstance(finished.run.metadata.update, LoraUpdate):
        base = request.getfixturevalue(BASES[task])
        stock = PeftModel.from_pretrained(auto.from_pretrained(base), saved)
        served = serving.load(base, saved, task, device=DEVICE.type)
    else:
        stock = auto.from_pretrained(saved)
        served = serving.load(saved, saved, task, device=DEVICE.type)
    with finished.run.full_eval_mode():
        expected = compute_logits(finished.run.model, finished)
    torch.testing.assert_close(compute_logits(stock.to(DEVICE).eval(), finished), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(compute_logits(served.model, finished), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("update", ["head", "layers"])
def test_frozen_tensors_are_saved_unchanged(
    finished_runs: dict[tuple[str, str], tuple[Path, FinishedRun]], update: str, encoder_base: Path
) -> None:
    saved, finished = finished_runs["text-classification", update]
    base, result = (load_file(directory / "model.safetensors") for directory in (encoder_base, saved))
    frozen = result.keys() - finished.run.trainable_parameters.keys()
    assert len(frozen) == {"head": 37, "layers": 21}[update]
    for name in frozen:
        assert torch.equal(result[name], base[name.removeprefix("bert.")])


def test_a_classifiers_new_head_is_in_its_adapter(
    finished_runs: dict[tuple[str, str], tuple[Path, FinishedRun]],
) -> None:
    saved, finished = finished_runs["text-classification", "lora"]
    assert "classifier" in json.loads((saved / "adapter_config.json").read_text())["modules_to_save"]
    head = load_file(saved / "adapter_model.safetensors")["base_model.model.classifier.weight"]
    trained_head = finished.run.trainable_parameters["base_model.model.classifier.modules_to_save.default.weight"]
    assert torch.equal(head, trained_head.cpu())


def test_rslora_and_dora_follow_their_definitions(
    finished_runs: dict[tuple[str, str], tuple[Path, FinishedRun]],
) -> None:
    plain, rslora, dora = (finished_runs["chat", name][1].run.model for name in ("lora", "rslora", "dora"))
    layers = [
        model.get_submodule("base_model.model.model.layers.0.self_attn.q_proj") for model in (plain, rslora, dora)
    ]
    assert [layer.scaling["default"] for layer in layers] == [32 / RANK, 32 / RANK**0.5, 32 / RANK]
    # DoRA: the adapted weight gives the direction, the length is trained (arXiv:2402.09353, eq. 5).
    layer = layers[2]
    weight = layer.base_layer.weight + layer.get_delta_weight("default")
    magnitude = layer.lora_magnitude_vector["default"].weight
    expected = magnitude[:, None] * weight / weight.norm(dim=1, keepdim=True)
    x = torch.linspace(-1, 1, 32, device=DEVICE)[None]
    torch.testing.assert_close(layer.eval()(x), x @ expected.T, rtol=1e-4, atol=1e-5)


def test_only_the_named_modules_get_an_adapter(tmp_path: Path, chat_base: Path) -> None:
    update = {**UPDATES["lora"], "target_modules": ["q_proj", "v_proj"]}
    finished = run_to_completion(
        create_run_folder(tmp_path / "run", chat_base, "chat", update, hyperparameters={"max_steps": 3})
    )
    assert {name.split(".")[-4] for name in finished.changed_tensors} == {"q_proj", "v_proj"}


@pytest.mark.parametrize(
    ("task", "update"),
    [
        ("chat", {**UPDATES["lora"], "target_modules": ["qproj"]}),
        ("text-classification", {"type": "lora", "target_modules": ["x"]}),
    ],
)
def test_an_unsupported_update_is_rejected(
    tmp_path: Path, task: str, update: Row, request: pytest.FixtureRequest
) -> None:
    folder = create_run_folder(tmp_path / "run", request.getfixturevalue(BASES[task]), task, update)
    with pytest.raises(TrainingError, match="does not fit this base") as caught:
        run_training(folder)
    assert (caught.value.code, caught.value.param) == ("base_model_unavailable", "update")


def test_more_layers_than_there_are_is_all_of_them(tmp_path: Path, encoder_base: Path) -> None:
    update = {"type": "layers", "last": 1000}
    hyper = {"max_steps": 2}
    finished = run_to_completion(
        create_run_folder(tmp_path / "run", encoder_base, "text-classification", update, hyperparameters=hyper)
    )
    names = {name for name, _ in finished.run.model.named_parameters()}
    assert finished.changed_tensors == {name for name in names if "embeddings" not in name}

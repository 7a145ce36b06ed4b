"""Tests for mixture-of-experts models: what trains, the auxiliary loss, and saved results."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM
from transformers.models.qwen3_moe.modeling_qwen3_moe import load_balancing_loss_func

from tests.families.catalog import DECODERS
from tests.training.run_folders import EventRecorder, Row, create_run_folder, run_training
from training import run as runs
from training.artifacts import serving
from training.errors import Interrupted, TrainingError
from training.run_events import Message, Metrics, Result, RunEvent
from training.spec import TrainSpec
from training.tasks import TASKS
from training.trainer.evaluate import evaluate
from training.trainer.gradients import compute_gradients
from training.trainer.prepare import prepare
from training.trainer.setup import build_run
from training.trainer.state import StopFlag, TrainingRun

pytestmark = pytest.mark.integration

MOE = ["qwen3-moe", "gpt-oss", "deepseek-v3"]
ROWS: list[Row] = [
    {"prompt": f"What is {number}?", "completion": "It is a number. " * (number % 3 + 1)} for number in range(8)
]
HYPER: Row = {"max_steps": 4, "batch_size": 4, "learning_rate": 0.01}
LORA: Row = {"type": "lora", "rank": 4}
UPDATES: dict[str, Row] = {
    "auto": LORA,
    "router": {**LORA, "target_router": True, "dropout": 0.1},
    "attention": {**LORA, "target_experts": False},
    "full": {"type": "full"},
}


def create_folder(tmp_path: Path, name: str, update: Row, label: str = "run", **changes: Any) -> tuple[Path, Path]:
    base = tmp_path / "base"
    if not base.exists():
        DECODERS[name].create_base(base)
    values: Row = {"training": ROWS, "validation": ROWS[:4], **changes}
    values["hyperparameters"] = HYPER | values.get("hyperparameters", {})
    return base, create_run_folder(tmp_path / label, base, "completion", update, **values)


def build(folder: Path) -> TrainingRun:
    spec, events = TrainSpec.read(folder), EventRecorder()
    return build_run(folder, spec, prepare(folder, spec, StopFlag()), events, StopFlag())


@pytest.mark.parametrize("name", MOE)
@pytest.mark.parametrize(
    "update", ["auto", *(pytest.param(name, marks=pytest.mark.slow) for name in UPDATES if name != "auto")]
)
def test_a_run_trains_exactly_the_parts_that_it_reports(tmp_path: Path, name: str, update: str) -> None:
    base, folder = create_folder(tmp_path, name, UPDATES[update])
    events = run_training(folder)
    [message] = [event.message for event in events.of_type(Message) if event.message.startswith("The update trains ")]
    assert ("experts of" in message or "experts and routers of" in message) == (update == "attention")
    assert ("routers" in message.split("; the")[0]) == (update in ("router", "full"))

    serving.merge(base, folder / "result", tmp_path / "merged")
    before, after = (
        AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32) for path in (base, tmp_path / "merged")
    )
    changed = {key for key, weight in after.state_dict().items() if not torch.equal(weight, before.state_dict()[key])}
    has_changed = {part: any(part in key for key in changed) for part in ("self_attn", ".experts.", "router", ".gate.")}
    assert has_changed["self_attn"]
    assert has_changed[".experts."] == (update != "attention")
    assert (has_changed["router"] or has_changed[".gate."]) == (update in ("router", "full"))
    if name == "deepseek-v3":
        # PEFT alone takes these layers for experts.
        dense = {
            part: any(part in key for key in changed) for part in ("shared_experts.down_proj", "layers.0.mlp.up_proj")
        }
        assert all(dense.values())


@pytest.mark.parametrize("name", MOE)
@pytest.mark.parametrize("update", ["router", pytest.param("auto", marks=pytest.mark.slow)])
def test_a_saved_adapter_has_the_loss_of_the_trained_model(tmp_path: Path, name: str, update: str) -> None:
    base, folder = create_folder(tmp_path, name, UPDATES[update])
    [result] = run_training(folder).of_type(Result)
    run = build(folder)
    run.model = serving.load(base, folder / "result", "completion").model
    run.router_loss = None
    assert evaluate(run, run.splits.validation).loss == pytest.approx(result.metrics["valid_loss"], abs=1e-5)


def test_a_resumed_run_equals_an_unbroken_one(tmp_path: Path) -> None:
    hyper = {"hyperparameters": {"gradient_accumulation_steps": 2}}
    _, whole = create_folder(tmp_path, "qwen3-moe", UPDATES["router"], "whole", **hyper)
    _, first = create_folder(tmp_path, "qwen3-moe", UPDATES["router"], "first", **hyper)
    [expected] = run_training(whole).of_type(Result)
    stop = StopFlag()

    def stop_in_the_middle(event: RunEvent) -> None:
        if isinstance(event, Metrics) and event.step == 2:
            stop.requested = True

    with pytest.raises(Interrupted):
        runs.train(first, stop_in_the_middle, stop)
    (first / "checkpoints" / "step-2").rename(first / "resume")
    [result] = run_training(first).of_type(Result)
    assert result.resume_proof == expected.resume_proof


@pytest.mark.parametrize("name", ["qwen3-moe", "gpt-oss"])
def test_the_auxiliary_loss_is_that_of_transformers(tmp_path: Path, name: str) -> None:
    _, folder = create_folder(tmp_path, name, {"type": "full"})
    run = build(folder)
    assert run.router_loss
    examples, context = run.splits.training[:4], replace(run.context, packed=False)
    run.compute_loss(examples, context)
    statistics = run.router_loss.collect()
    config = run.model.config
    batch = run.task.collate(examples, context)
    out = run.model(input_ids=batch["input_ids"], output_router_logits=True)
    expected = load_balancing_loss_func(
        tuple(out.router_logits), config.num_local_experts, config.num_experts_per_tok, batch["mask_BT"]
    )
    actual = run.router_loss.compute(statistics, statistics)
    assert batch["mask_BT"].sum() < batch["mask_BT"].numel(), "some rows have padding"
    torch.testing.assert_close(actual, config.router_aux_loss_coef * expected)


def compute_batch_gradient(run: TrainingRun, micro_batches: int, coefficient: float) -> dict[str, torch.Tensor]:
    assert run.router_loss
    run.router_loss._coefficient = coefficient
    run.optimizer.zero_grad(set_to_none=True)
    compute_gradients(run, run.splits.training[:4], micro_batches)
    return {name: weight.grad.clone() for name, weight in run.trainable_parameters.items() if weight.grad is not None}


@pytest.mark.parametrize("checkpointing", [False, True])
def test_the_gradient_does_not_depend_on_micro_batches(tmp_path: Path, checkpointing: bool) -> None:
    hyper = {"gradient_checkpointing": checkpointing, "max_grad_norm": 1000.0}
    _, folder = create_folder(tmp_path, "qwen3-moe", UPDATES["full"], hyperparameters=hyper)
    run = build(folder)
    whole, split = (compute_batch_gradient(run, micro_batches, 10.0) for micro_batches in (1, 4))
    without = compute_batch_gradient(run, 1, 0.0)
    router = "model.layers.0.mlp.gate.weight"
    assert not torch.allclose(whole[router], without[router], atol=1e-3)
    for name in whole:
        torch.testing.assert_close(whole[name], split[name], rtol=1e-4, atol=1e-5)


def test_models_and_updates_without_the_loss(tmp_path: Path) -> None:
    assert build(create_folder(tmp_path / "a", "qwen3-moe", UPDATES["attention"])[1]).router_loss is None
    # DeepSeek-V3 balances its experts by a bias instead.
    assert build(create_folder(tmp_path / "b", "deepseek-v3", UPDATES["full"])[1]).router_loss is None
    assert build(create_folder(tmp_path / "c", "qwen3", UPDATES["auto"])[1]).router_loss is None


def test_the_auxiliary_loss_balances_the_experts(tmp_path: Path) -> None:
    """With a large coefficient, training spreads the tokens over the experts."""
    _, folder = create_folder(tmp_path, "qwen3-moe", UPDATES["full"])
    run = build(folder)
    assert run.router_loss
    run.router_loss._coefficient = 5.0
    values = []
    for step in range(12):
        compute_gradients(run, run.splits.training[:8], 1, step)
        run.compute_loss(run.splits.training[:8], run.context)
        statistics = run.router_loss.collect()
        values.append(run.router_loss.compute(statistics, statistics).item() / 5.0)
        with torch.no_grad():
            for weight in run.trainable_parameters.values():
                weight -= 0.02 * weight.grad if weight.grad is not None else 0.0
        run.optimizer.zero_grad(set_to_none=True)
    # The minimum is the number of experts of a token, here 2.
    assert values[-1] < values[0]


@pytest.mark.parametrize("packed", [True, False])
def test_the_routing_of_a_batch_excludes_padding(tmp_path: Path, packed: bool) -> None:
    _, folder = create_folder(tmp_path, "qwen3-moe", UPDATES["full"])
    run = build(folder)
    assert run.router_loss
    assert run.context.packed, "a base whose rows are packed"
    rows = run.splits.training[:4]
    run.compute_loss(rows, replace(run.context, packed=packed))
    statistics = run.router_loss.collect()
    tokens = run.model.config.num_hidden_layers * sum(example.size for example in rows)
    assert statistics.tokens == tokens
    assert statistics.assignments_E.sum() == run.model.config.num_experts_per_tok * tokens


def test_experts_of_a_dense_model_are_refused(tmp_path: Path) -> None:
    _, folder = create_folder(tmp_path, "qwen3", {**LORA, "target_experts": True})
    with pytest.raises(TrainingError, match="has no experts") as caught:
        run_training(folder)
    assert caught.value.code == "base_model_unavailable"


@pytest.mark.parametrize("precision", ["native", "nf4"])
def test_adapters_beside_experts_have_dropout(tmp_path: Path, precision: str) -> None:
    update = {**LORA, "dropout": 0.1, "base_precision": precision}
    run = build(create_folder(tmp_path, "qwen3-moe", update)[1])
    rates = [
        getattr(layer.lora_dropout["default"], "p", None)
        for name, layer in run.model.named_modules()
        if name.endswith(("q_proj", "o_proj")) and hasattr(layer, "lora_dropout")
    ]
    assert rates
    assert set(rates) == {0.1}


def test_dora_leaves_the_experts_out(tmp_path: Path) -> None:
    _, folder = create_folder(tmp_path, "qwen3-moe", {**LORA, "dora": True})
    run_training(folder)
    config = json.loads((folder / "result" / "adapter_config.json").read_text())
    assert not config["target_parameters"]
    assert TASKS["completion"].generative

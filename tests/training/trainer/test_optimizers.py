"""Tests that compare optimizers and other parts of a step with formulas and libraries."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from math import cos, pi
from pathlib import Path
from typing import Any

import bitsandbytes
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy
from transformers import AutoModelForCausalLM

from tests.devices import DEVICE, to_device
from tests.training.run_folders import FULL, LABEL_ROWS, LORA, Row, create_run_folder, run_training
from tests.training.step_probe import assert_resumed_run_matches, compute_step, run_to_completion, set_up_run
from training.run_events import Metrics, Started
from training.tasks.support import labels
from training.trainer import neftune, optim
from training.trainer.evaluate import evaluate

pytestmark = pytest.mark.integration

TASK = "text-classification"
RATE, DECAY = 0.01, 0.1
# 8-bit AdamW keeps float32 moments of weights as small as these.
TORCH_OPTIMIZERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "adamw": lambda groups: torch.optim.AdamW(groups, lr=RATE, betas=(0.9, 0.999), eps=1e-8),
    "adamw8bit": lambda groups: torch.optim.AdamW(groups, lr=RATE, betas=(0.9, 0.999), eps=1e-8),
    "sgd": lambda groups: torch.optim.SGD(groups, lr=RATE, momentum=0.9),
    "adafactor": lambda groups: torch.optim.Adafactor(groups, lr=RATE),
}


def build_layer() -> nn.Linear:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return nn.Linear(6, 5).to(DEVICE)


def build_gradients(step: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(step)
    return [torch.randn(shape, generator=generator).to(DEVICE) for shape in ((5, 6), (5,))]


def test_every_optimizer_is_tested() -> None:
    assert set(TORCH_OPTIMIZERS) == set(optim.OPTIMIZERS)


@pytest.mark.parametrize("name", TORCH_OPTIMIZERS)
def test_steps_are_torchs_own(name: str) -> None:
    """Weight decay applies to matrices, not to vectors."""
    ours, theirs = build_layer(), build_layer()
    optimizer = optim.build(name, ours.parameters(), DECAY, DEVICE)
    optim.set_learning_rate(optimizer, RATE)
    stock = TORCH_OPTIMIZERS[name](
        [{"params": [theirs.weight], "weight_decay": DECAY}, {"params": [theirs.bias], "weight_decay": 0.0}]
    )
    for step in range(4):
        for layer, layer_optimizer in ((ours, optimizer), (theirs, stock)):
            for weight, gradient in zip(layer.parameters(), build_gradients(step), strict=True):
                weight.grad = gradient.clone()
            layer_optimizer.step()
        torch.testing.assert_close(ours.weight, theirs.weight, rtol=1e-6, atol=1e-7)
        torch.testing.assert_close(ours.bias, theirs.bias, rtol=1e-6, atol=1e-7)
    assert not torch.equal(ours.weight, build_layer().weight)


def test_8_bit_adamw_in_parts_has_the_bits_of_bitsandbytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optim, "UPDATE_PART", 2 * optim.UPDATE_BLOCK)
    start = torch.randn(70, 71, generator=torch.Generator().manual_seed(1))
    weights = [nn.Parameter(start.clone()) for _ in range(3)]
    ours = optim.build("adamw8bit", weights[:1], DECAY, torch.device("cpu"))
    optim.set_learning_rate(ours, RATE)
    stock = bitsandbytes.optim.AdamW8bit(weights[1:2], lr=RATE, weight_decay=DECAY)
    wide = torch.optim.AdamW(weights[2:], lr=RATE, weight_decay=DECAY)
    for step in range(4):
        gradient = torch.randn(70, 71, generator=torch.Generator().manual_seed(step))
        for weight, optimizer in zip(weights, (ours, stock, wide), strict=True):
            weight.grad = gradient.clone()
            optimizer.step()
    assert ours.state[weights[0]]["state1"].dtype == torch.uint8
    assert torch.equal(weights[0], weights[1])
    for name in ("state1", "state2", "absmax1", "absmax2"):
        assert torch.equal(ours.state[weights[0]][name], stock.state[weights[1]][name])
    # Four steps of about the learning rate, with the error of the 8-bit moments.
    assert 0 < (weights[0] - weights[2]).abs().mean() < 0.02 * RATE * 4


def test_the_first_steps_by_hand() -> None:
    """Checks first steps: AdamW's has the size of the learning rate, SGD's that of the gradient.

    AdamW: arXiv:1711.05101, algorithm 2.
    """
    start, gradient = build_layer().weight.detach(), build_gradients(0)[0]
    expected = {
        "adamw": start * (1 - RATE * DECAY) - RATE * gradient / (gradient.abs() + 1e-8),
        "sgd": start - RATE * (gradient + DECAY * start),
    }
    for name, weight in expected.items():
        module = build_layer()
        optimizer = optim.build(name, module.parameters(), DECAY, DEVICE)
        optim.set_learning_rate(optimizer, RATE)
        module.weight.grad = gradient.clone()
        optimizer.step()
        torch.testing.assert_close(module.weight.detach(), weight, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", TORCH_OPTIMIZERS)
def test_each_optimizer_resumes_with_identical_bits(tmp_path: Path, encoder_base: Path, name: str) -> None:
    hyper = {"n_epochs": 1, "batch_size": 4, "optimizer": name}

    def create_folder(name: str) -> Path:
        return create_run_folder(tmp_path / name, encoder_base, TASK, FULL, hyperparameters=hyper)

    whole = run_training(create_folder("whole"))
    for step in range(1, 4):
        assert_resumed_run_matches(create_folder, step, whole)


def test_the_rate_rises_and_falls_as_requested(tmp_path: Path, encoder_base: Path) -> None:
    hyper = {"max_steps": 10, "batch_size": 4, "learning_rate": 0.01, "lr_scheduler": "cosine", "warmup_ratio": 0.2}
    lines = run_training(create_run_folder(tmp_path / "run", encoder_base, TASK, LORA, hyperparameters=hyper))
    decay = [0.01 * (1 + cos(pi * done / 8)) / 2 for done in range(8)]
    assert [line.learning_rate for line in lines.of_type(Metrics)] == pytest.approx([0.005, 0.01, *decay])


class Embedder(nn.Module):
    """A model that is only an embedding table."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(20, 16)

    def get_input_embeddings(self) -> nn.Module:
        return self.table

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        embedded: torch.Tensor = self.table(ids)
        return embedded


def test_neftunes_noise_is_uniform_within_its_bound_and_in_train_mode_only() -> None:
    model, ids = Embedder().requires_grad_(False), torch.arange(4 * 10).reshape(4, 10) % 20
    plain = model(ids)
    neftune.activate(model, alpha=5.0)
    bound = 5.0 / (10 * 16) ** 0.5
    noise = torch.cat([model(ids) - plain for _ in range(50)])
    assert noise.abs().max() <= bound * (1 + 1e-5)
    assert noise.abs().max() > 0.99 * bound
    assert noise.mean().abs() < 0.02 * bound
    assert noise.std() == pytest.approx(bound / 3**0.5, rel=0.02)
    assert torch.equal(model.eval()(ids), plain)


@pytest.mark.parametrize(("task", "base"), [("chat", "chat_base"), (TASK, "encoder_base")])
def test_neftune_changes_training_and_no_evaluation(
    tmp_path: Path, task: str, base: str, request: pytest.FixtureRequest
) -> None:
    directory = request.getfixturevalue(base)
    plain, noisy = (
        set_up_run(
            create_run_folder(tmp_path / str(alpha), directory, task, FULL, hyperparameters={"neftune_alpha": alpha})
        )
        for alpha in (0.0, 10.0)
    )
    # The noise depends on the length of a row, which packed rows do not have.
    assert not noisy.context.packed
    examples = list(plain.splits.training)
    left, right = evaluate(plain, examples), evaluate(noisy, examples)
    assert left.loss == pytest.approx(right.loss, rel=1e-5)
    first, repeated, other = (compute_step(noisy, examples, step)[0].loss for step in (1, 1, 2))
    assert first == repeated != other
    assert first != compute_step(plain, examples)[0].loss


def test_neftunes_noise_does_not_reach_a_frozen_base(tmp_path: Path, encoder_base: Path) -> None:
    plain, noisy = (
        set_up_run(
            create_run_folder(
                tmp_path / str(alpha), encoder_base, TASK, {"type": "head"}, hyperparameters={"neftune_alpha": alpha}
            ),
            cache_features=False,
        )
        for alpha in (0.0, 10.0)
    )
    assert compute_step(plain, plain.splits.training)[0] == compute_step(noisy, noisy.splits.training)[0]


UNBALANCED_ROWS = [*LABEL_ROWS[:6], *(row for row in LABEL_ROWS[6:] if row["label"] == "pear")]
MULTI_LABEL_ROWS: list[Row] = [{"text": f"number {number}", "labels": ["a", "b"][: number % 3]} for number in range(9)]


@pytest.mark.parametrize("class_weights", ["balanced", {"pear": 3.0}])
def test_class_weights_are_scikit_learns_and_torchs(tmp_path: Path, encoder_base: Path, class_weights: Any) -> None:
    folder = create_run_folder(
        tmp_path / "run",
        encoder_base,
        TASK,
        FULL,
        training=UNBALANCED_ROWS,
        hyperparameters={"class_weights": class_weights, "label_smoothing": 0.0},
    )
    run = set_up_run(folder)
    truth = [row["label"] for row in UNBALANCED_ROWS]
    expected = [1.0, 3.0]
    if class_weights == "balanced":
        scikit_learn = pytest.importorskip("sklearn.utils.class_weight")
        expected = list(scikit_learn.compute_class_weight("balanced", classes=np.array(["apple", "pear"]), y=truth))
    weights = labels.compute_class_weights(run.context)
    assert weights == pytest.approx(expected)
    examples = list(run.splits.training)
    run.model.eval()
    inputs = to_device(run.task.collate(examples, run.context))
    targets = inputs.pop("truth_BL").int().argmax(-1)
    with torch.no_grad():
        logits = run.model(**inputs).logits
        loss = run.compute_loss(examples, run.context).total / sum(
            run.task.sum_weights(example, run.context) for example in examples
        )
    torch.testing.assert_close(loss, cross_entropy(logits, targets, torch.tensor(weights, device=DEVICE)))
    # Evaluation does not use the weights.
    assert evaluate(run, examples).loss == pytest.approx(cross_entropy(logits, targets).item(), rel=1e-5)


def test_weights_of_many_labels_are_torchs(tmp_path: Path, encoder_base: Path) -> None:
    hyper = {"class_weights": {"a": 0.5, "b": 4.0}}
    run = set_up_run(
        create_run_folder(tmp_path / "run", encoder_base, TASK, FULL, training=MULTI_LABEL_ROWS, hyperparameters=hyper)
    )
    examples = list(run.splits.training)
    run.model.eval()
    inputs = to_device(run.task.collate(examples, run.context))
    truth = inputs.pop("truth_BL").float()
    with torch.no_grad():
        loss = run.compute_loss(examples, run.context).total / len(examples)
        logits = run.model(**inputs).logits
    positive_weights = torch.tensor([0.5, 4.0], device=DEVICE)
    torch.testing.assert_close(loss, binary_cross_entropy_with_logits(logits, truth, positive_weights))


@pytest.mark.parametrize("update", [LORA, FULL, {"type": "layers", "last": 1}], ids=["lora", "full", "layers"])
@pytest.mark.parametrize(("task", "base"), [("chat", "chat_base"), (TASK, "encoder_base")])
def test_gradient_checkpointing_gives_the_same_gradients(
    tmp_path: Path, task: str, base: str, update: Row, request: pytest.FixtureRequest
) -> None:
    """Recomputation draws the same dropout."""
    directory, steps, calls = request.getfixturevalue(base), [], []
    for enabled in (False, True):
        hyper = {"gradient_checkpointing": enabled}
        run = set_up_run(create_run_folder(tmp_path / str(enabled), directory, task, update, hyperparameters=hyper))
        passes: list[Any] = []
        [block] = [module for name, module in run.model.named_modules() if name.endswith(("layer.1", "layers.1"))]
        inner = next(child for child in block.modules() if isinstance(child, nn.Linear))
        inner.register_forward_pre_hook(lambda *_, passes=passes: passes.append(1))
        steps.append(compute_step(run, run.splits.training[:6]))
        calls.append(len(passes))
    assert calls == [1, 2]
    torch.testing.assert_close(steps[0], steps[1], rtol=1e-5, atol=1e-7)


@pytest.fixture
def bf16_base(tmp_path: Path, chat_base: Path) -> Path:
    """A base whose weights on disk are bf16."""
    directory = tmp_path / "narrow"
    shutil.copytree(chat_base, directory)
    AutoModelForCausalLM.from_pretrained(chat_base, dtype=torch.bfloat16).save_pretrained(directory)
    return directory


@pytest.mark.parametrize("update", [LORA, FULL, {"type": "layers", "last": 1}], ids=["lora", "full", "layers"])
def test_bf16_trains_fp32_masters(tmp_path: Path, bf16_base: Path, update: Row) -> None:
    hyper = {"dtype": "bfloat16", "n_epochs": 4, "batch_size": 4, "learning_rate": 0.01}
    done = run_to_completion(create_run_folder(tmp_path / "run", bf16_base, "chat", update, hyperparameters=hyper))
    assert {weight.dtype for weight in done.run.trainable_parameters.values()} == {torch.float32}
    trainable = done.run.trainable_parameters
    frozen = {name: weight for name, weight in done.run.model.named_parameters() if name not in trainable}
    assert {weight.dtype for weight in frozen.values()} <= {torch.bfloat16}
    assert done.changed_tensors >= set(done.run.trainable_parameters)
    losses = [line.train_loss for line in done.events.of_type(Metrics)]
    assert losses[-1] < 0.8 * losses[0]
    # Updates smaller than the last bit of a bf16 weight accumulate.
    weight = next(iter(done.run.trainable_parameters.values()))
    assert not torch.equal(weight, weight.bfloat16().float())


def test_bf16_is_reported_and_near_fp32(tmp_path: Path, chat_base: Path) -> None:
    losses = {}
    for dtype in ("float32", "bfloat16"):
        hyper = {"dtype": dtype, "max_steps": 3, "learning_rate": 0.001}
        folder = create_run_folder(tmp_path / dtype, chat_base, "chat", FULL, hyperparameters=hyper)
        lines = run_training(folder)
        assert lines.of_type(Started)[0].dtype == dtype
        losses[dtype] = [line.train_loss for line in lines.of_type(Metrics)]
        metadata = json.loads((folder / "result/luthier.json").read_text())
        assert metadata["hyperparameters"]["dtype"] == dtype
    assert losses["bfloat16"] == pytest.approx(losses["float32"], rel=0.03)
    assert losses["bfloat16"] != losses["float32"]

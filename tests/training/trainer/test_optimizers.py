"""Optimizers and what else shapes a step: each against its formula or a library's own."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from math import cos, pi
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy
from transformers import AutoModelForCausalLM

from tests.training.run_folders import FULL, LABEL_ROWS, LORA, Row, make_folder, trained
from tests.training.step_probe import assembled, assert_unbroken, ran, step_of
from training.run_events import Metrics, Started
from training.tasks.support import labels
from training.trainer import neftune, optim
from training.trainer.evaluate import evaluate

TASK = "text-classification"
CPU = torch.device("cpu")
RATE, DECAY = 0.01, 0.1
STOCK: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "adamw": lambda groups: torch.optim.AdamW(groups, lr=RATE, betas=(0.9, 0.999), eps=1e-8),
    "sgd": lambda groups: torch.optim.SGD(groups, lr=RATE, momentum=0.9),
    "adafactor": lambda groups: torch.optim.Adafactor(groups, lr=RATE),
}


def layer() -> nn.Linear:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return nn.Linear(6, 5)


def gradients_of(step: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(step)
    return [torch.randn(5, 6, generator=generator), torch.randn(5, generator=generator)]


def test_every_optimizer_is_tested() -> None:
    assert set(STOCK) == set(optim.OPTIMIZERS)


@pytest.mark.parametrize("name", STOCK)
def test_steps_are_torchs_own(name: str) -> None:
    """Matrices decay, vectors do not."""
    ours, theirs = layer(), layer()
    optimizer = optim.build(name, ours.parameters(), DECAY, CPU)
    optim.set_rate(optimizer, RATE)
    stock = STOCK[name](
        [{"params": [theirs.weight], "weight_decay": DECAY}, {"params": [theirs.bias], "weight_decay": 0.0}]
    )
    for step in range(4):
        for one, chosen in ((ours, optimizer), (theirs, stock)):
            for weight, gradient in zip(one.parameters(), gradients_of(step), strict=True):
                weight.grad = gradient.clone()
            chosen.step()
        torch.testing.assert_close(ours.weight, theirs.weight, rtol=1e-6, atol=1e-7)
        torch.testing.assert_close(ours.bias, theirs.bias, rtol=1e-6, atol=1e-7)
    assert not torch.equal(ours.weight, layer().weight)


def test_the_first_steps_by_hand() -> None:
    """AdamW's first step has the size of the rate (arXiv:1711.05101, algorithm 2), SGD's that of the gradient."""
    start, gradient = layer().weight.detach(), gradients_of(0)[0]
    expected = {
        "adamw": start * (1 - RATE * DECAY) - RATE * gradient / (gradient.abs() + 1e-8),
        "sgd": start - RATE * (gradient + DECAY * start),
    }
    for name, weight in expected.items():
        module = layer()
        optimizer = optim.build(name, module.parameters(), DECAY, CPU)
        optim.set_rate(optimizer, RATE)
        module.weight.grad = gradient.clone()
        optimizer.step()
        torch.testing.assert_close(module.weight.detach(), weight, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", STOCK)
def test_each_resumes_bit_by_bit(tmp_path: Path, encoder_base: Path, name: str) -> None:
    hyper = {"n_epochs": 1, "batch_size": 4, "optimizer": name}

    def make(folder: str) -> Path:
        return make_folder(tmp_path / folder, encoder_base, TASK, FULL, hyperparameters=hyper)

    whole = trained(make("whole"))
    for step in range(1, 4):
        assert_unbroken(make, step, whole)


def test_the_rate_rises_and_falls_as_asked(tmp_path: Path, encoder_base: Path) -> None:
    hyper = {"max_steps": 10, "batch_size": 4, "learning_rate": 0.01, "lr_scheduler": "cosine", "warmup_ratio": 0.2}
    lines = trained(make_folder(tmp_path / "run", encoder_base, TASK, LORA, hyperparameters=hyper))
    falling = [0.01 * (1 + cos(pi * done / 8)) / 2 for done in range(8)]
    assert [line.learning_rate for line in lines.of(Metrics)] == pytest.approx([0.005, 0.01, *falling])


class Embedder(nn.Module):
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
    neftune.add(model, alpha=5.0)
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
        assembled(make_folder(tmp_path / str(alpha), directory, task, FULL, hyperparameters={"neftune_alpha": alpha}))
        for alpha in (0.0, 10.0)
    )
    # Laid end to end, rows have no length of their own.
    assert not noisy.kit.packed
    examples = list(plain.rows.training)
    left, right = evaluate(plain, examples), evaluate(noisy, examples)
    assert left.loss == pytest.approx(right.loss, rel=1e-5)
    first, again, other = (step_of(noisy, examples, step)[0].loss for step in (1, 1, 2))
    assert first == again != other
    assert first != step_of(plain, examples)[0].loss


def test_neftunes_noise_does_not_reach_a_frozen_base(tmp_path: Path, encoder_base: Path) -> None:
    plain, noisy = (
        assembled(
            make_folder(
                tmp_path / str(alpha), encoder_base, TASK, {"type": "head"}, hyperparameters={"neftune_alpha": alpha}
            ),
            keep=False,
        )
        for alpha in (0.0, 10.0)
    )
    assert step_of(plain, plain.rows.training)[0] == step_of(noisy, noisy.rows.training)[0]


UNEVEN = [*LABEL_ROWS[:6], *(row for row in LABEL_ROWS[6:] if row["label"] == "pear")]
MANY: list[Row] = [{"text": f"number {number}", "labels": ["a", "b"][: number % 3]} for number in range(9)]


@pytest.mark.parametrize("asked", ["balanced", {"pear": 3.0}])
def test_class_weights_are_scikit_learns_and_torchs(tmp_path: Path, encoder_base: Path, asked: Any) -> None:
    folder = make_folder(
        tmp_path / "run",
        encoder_base,
        TASK,
        FULL,
        training=UNEVEN,
        hyperparameters={"class_weights": asked, "label_smoothing": 0.0},
    )
    run = assembled(folder)
    truth = [row["label"] for row in UNEVEN]
    expected = [1.0, 3.0]
    if asked == "balanced":
        expected = list(compute_class_weight("balanced", classes=np.array(["apple", "pear"]), y=truth))
    weights = labels.class_weights(run.kit)
    assert weights == pytest.approx(expected)
    examples = list(run.rows.training)
    run.model.eval()
    inputs = run.task.collate(examples, run.kit)
    targets = inputs.pop("truth_BL").int().argmax(-1)
    with torch.no_grad():
        logits = run.model(**inputs).logits
        loss = run.loss(examples, run.kit).total / sum(run.task.weight(one, run.kit) for one in examples)
    torch.testing.assert_close(loss, cross_entropy(logits, targets, torch.tensor(weights)))
    # Measured without them.
    assert evaluate(run, examples).loss == pytest.approx(cross_entropy(logits, targets).item(), rel=1e-5)


def test_weights_of_many_labels_are_torchs(tmp_path: Path, encoder_base: Path) -> None:
    hyper = {"class_weights": {"a": 0.5, "b": 4.0}}
    run = assembled(make_folder(tmp_path / "run", encoder_base, TASK, FULL, training=MANY, hyperparameters=hyper))
    examples = list(run.rows.training)
    run.model.eval()
    inputs = run.task.collate(examples, run.kit)
    truth = inputs.pop("truth_BL").float()
    with torch.no_grad():
        loss = run.loss(examples, run.kit).total / len(examples)
        logits = run.model(**inputs).logits
    torch.testing.assert_close(loss, binary_cross_entropy_with_logits(logits, truth, torch.tensor([0.5, 4.0])))


@pytest.mark.parametrize("update", [LORA, FULL, {"type": "layers", "last": 1}], ids=["lora", "full", "layers"])
@pytest.mark.parametrize(("task", "base"), [("chat", "chat_base"), (TASK, "encoder_base")])
def test_gradient_checkpointing_gives_the_same_gradients(
    tmp_path: Path, task: str, base: str, update: Row, request: pytest.FixtureRequest
) -> None:
    """Dropout included: what is computed twice is drawn twice alike."""
    directory, found, calls = request.getfixturevalue(base), [], []
    for on in (False, True):
        hyper = {"gradient_checkpointing": on}
        run = assembled(make_folder(tmp_path / str(on), directory, task, update, hyperparameters=hyper))
        passes: list[Any] = []
        [block] = [module for name, module in run.model.named_modules() if name.endswith(("layer.1", "layers.1"))]
        inner = next(child for child in block.modules() if isinstance(child, nn.Linear))
        inner.register_forward_pre_hook(lambda *_, passes=passes: passes.append(1))
        found.append(step_of(run, run.rows.training[:6]))
        calls.append(len(passes))
    assert calls == [1, 2]
    torch.testing.assert_close(found[0], found[1], rtol=1e-5, atol=1e-7)


@pytest.fixture
def narrow_base(tmp_path: Path, chat_base: Path) -> Path:
    """A base whose weights are bf16 on disk."""
    directory = tmp_path / "narrow"
    shutil.copytree(chat_base, directory)
    AutoModelForCausalLM.from_pretrained(chat_base, dtype=torch.bfloat16).save_pretrained(directory)
    return directory


@pytest.mark.parametrize("update", [LORA, FULL, {"type": "layers", "last": 1}], ids=["lora", "full", "layers"])
def test_bf16_trains_fp32_masters(tmp_path: Path, narrow_base: Path, update: Row) -> None:
    hyper = {"dtype": "bfloat16", "n_epochs": 4, "batch_size": 4, "learning_rate": 0.01}
    done = ran(make_folder(tmp_path / "run", narrow_base, "chat", update, hyperparameters=hyper))
    assert {weight.dtype for weight in done.run.trained.values()} == {torch.float32}
    others = {name: it for name, it in done.run.model.named_parameters() if name not in done.run.trained}
    assert {weight.dtype for weight in others.values()} <= {torch.bfloat16}
    assert done.moved >= set(done.run.trained)
    losses = [line.train_loss for line in done.lines.of(Metrics)]
    assert losses[-1] < 0.8 * losses[0]
    # Steps far below the last bit of a bf16 weight count.
    weight = next(iter(done.run.trained.values()))
    assert not torch.equal(weight, weight.bfloat16().float())


def test_bf16_is_told_and_near_fp32(tmp_path: Path, chat_base: Path) -> None:
    losses = {}
    for dtype in ("float32", "bfloat16"):
        hyper = {"dtype": dtype, "max_steps": 3, "learning_rate": 0.001}
        folder = make_folder(tmp_path / dtype, chat_base, "chat", FULL, hyperparameters=hyper)
        lines = trained(folder)
        assert lines.of(Started)[0].dtype == dtype
        losses[dtype] = [line.train_loss for line in lines.of(Metrics)]
        card = json.loads((folder / "result/luthier.json").read_text())
        assert card["hyperparameters"]["dtype"] == dtype
    assert losses["bfloat16"] == pytest.approx(losses["float32"], rel=0.03)
    assert losses["bfloat16"] != losses["float32"]

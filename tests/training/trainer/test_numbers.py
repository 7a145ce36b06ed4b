"""Tests that compare losses, gradients, and metrics with reference computations."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM, Gemma2Config, Gemma2ForCausalLM

from tests.devices import DEVICE, to_device
from tests.training.run_folders import FULL, LABEL_ROWS, LORA, TASK_ROWS, create_run_folder, run_training
from training.kernels.probe import ProbeSettings
from training.models import weights
from training.models.logprobs import compute_from_logits, logprobs_from_logits, select_logprob_function
from training.run_events import Metrics
from training.spec import TrainSpec
from training.tasks.chat import Chat
from training.trainer.evaluate import evaluate
from training.trainer.gradients import BatchMetrics, compute_gradients
from training.trainer.prepare import prepare
from training.trainer.setup import build_run
from training.trainer.state import StopFlag, TrainingRun
from training.updates.lora import LoraUpdate

pytestmark = pytest.mark.integration

FLOAT32 = ProbeSettings(DEVICE, torch.float32)
TASK_BASES = [("chat", "chat_base"), ("text-classification", "encoder_base")]


@pytest.fixture
def make_run(tmp_path: Path, request: pytest.FixtureRequest) -> Callable[..., TrainingRun]:
    def make(task: str, base: str, update: dict[str, Any], **hyper: Any) -> TrainingRun:
        folder = tmp_path / f"run{len(list(tmp_path.iterdir()))}"
        rows = TASK_ROWS[task]
        create_run_folder(folder, request.getfixturevalue(base), task, update, validation=rows, hyperparameters=hyper)
        spec = TrainSpec.read(folder)
        run = build_run(folder, spec, prepare(folder, spec, StopFlag()), lambda line: None, StopFlag())
        run.model.eval()
        return run

    return make


def assert_close(left: Any, right: Any) -> None:
    torch.testing.assert_close(left, right, rtol=1e-4, atol=1e-6)


def compute_step(run: TrainingRun, examples: list[Any], micro_batches: int = 1) -> BatchMetrics:
    run.optimizer.zero_grad()
    return compute_gradients(run, examples, micro_batches)


def copy_gradients(run: TrainingRun) -> dict[str, torch.Tensor]:
    return {name: weight.grad.clone() for name, weight in run.trainable_parameters.items() if weight.grad is not None}


def compute_logprobs_from_logits(
    model: Any, ids_BT: torch.Tensor, positions_N: torch.Tensor, targets_N: torch.Tensor
) -> Any:
    return logprobs_from_logits(model(ids_BT).logits.flatten(0, 1)[positions_N], targets_N, with_mean=True)


IDS = torch.arange(5, 56, device=DEVICE).reshape(3, 17)
POSITIONS = torch.tensor([0, 5, 15, 20, 49], device=DEVICE)


def test_scores_at_targets_are_the_models_own(chat_base: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(chat_base).to(DEVICE).eval()
    targets = IDS.flatten()[POSITIONS + 1]
    assert_close(
        select_logprob_function(model, FLOAT32)(model, {"input_ids": IDS}, POSITIONS, targets, with_mean=True),
        compute_logprobs_from_logits(model, IDS, POSITIONS, targets),
    )


@pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings:UserWarning", "ignore:.*tied:UserWarning")
def test_through_an_adapter_too(chat_base: Path) -> None:
    base = AutoModelForCausalLM.from_pretrained(chat_base).to(DEVICE)
    model = LoraUpdate(rank=4, target_modules=["q_proj", "lm_head"]).apply(base, Chat()).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.normal_()
    targets = IDS.flatten()[POSITIONS + 1]
    assert_close(
        select_logprob_function(model, FLOAT32)(model, {"input_ids": IDS}, POSITIONS, targets, with_mean=True),
        compute_logprobs_from_logits(model, IDS, POSITIONS, targets),
    )


def test_models_that_transform_their_logits_use_their_own_forward() -> None:
    config = Gemma2Config(
        vocab_size=60,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        final_logit_softcapping=0.01,
    )
    model = Gemma2ForCausalLM(config).to(DEVICE).eval()
    assert select_logprob_function(model, FLOAT32) is compute_from_logits
    targets = IDS.flatten()[POSITIONS + 1]
    scores = compute_from_logits(model, {"input_ids": IDS}, POSITIONS, targets)
    # All logits are within 0.01 of each other, so all tokens are almost equally probable.
    assert (scores.logprobs_N + torch.tensor(60.0).log()).abs().max() < 0.02
    assert_close(scores.logprobs_N, compute_logprobs_from_logits(model, IDS, POSITIONS, targets).logprobs_N)


def test_the_chat_loss_is_the_textbooks(make_run: Callable[..., TrainingRun]) -> None:
    """Compares with the model's own loss with labels, row by row, weighted by hand."""
    run = make_run("chat", "chat_base", FULL)
    examples = list(run.splits.training)
    total, correct = 0.0, 0
    for example in examples:
        ids = torch.tensor([list(example.ids)], device=DEVICE)
        labels = ids.masked_fill(torch.tensor([list(example.weights)], device=DEVICE) == 0, -100)
        out = run.model(input_ids=ids, labels=labels)
        count = int((labels != -100).sum())
        total += out.loss.item() * count
        predictions = out.logits[0, :-1].argmax(-1)
        correct += int((predictions == labels[0, 1:]).sum())
    count = sum(run.task.count_targets(example) for example in examples)
    loss, accuracy, *_ = compute_step(run, examples)
    assert_close((loss, accuracy), (total / count, correct / count))


def test_a_rows_weight_scales_its_contribution(make_run: Callable[..., TrainingRun]) -> None:
    run = make_run("chat", "chat_base", FULL)
    first, second = run.splits.training[:2]
    weighted = replace(second, weights=array("f", [3 * weight for weight in second.weights]))
    alone = [compute_step(run, [example]).loss for example in (first, second)]
    counts = [run.task.count_targets(first), 3 * run.task.count_targets(second)]
    expected = (alone[0] * counts[0] + alone[1] * counts[1]) / sum(counts)
    assert_close(compute_step(run, [first, weighted]).loss, expected)


@pytest.mark.parametrize(("task", "base"), TASK_BASES)
@pytest.mark.parametrize("micro_batches", [2, 3, 6])
def test_accumulated_gradients_equal_the_big_batch(
    make_run: Callable[..., TrainingRun], task: str, base: str, micro_batches: int
) -> None:
    whole, split = make_run(task, base, FULL), make_run(task, base, FULL)
    examples = list(whole.splits.training[:6])
    assert_close(compute_step(whole, examples)[:3], compute_step(split, examples, micro_batches)[:3])
    assert_close(copy_gradients(whole), copy_gradients(split))


@pytest.mark.parametrize(("task", "base"), TASK_BASES)
def test_padding_changes_nothing(make_run: Callable[..., TrainingRun], task: str, base: str) -> None:
    run = make_run(task, base, FULL, batch_size=1)
    alone = evaluate(run, run.splits.validation)
    run.hyper = run.hyper.model_copy(update={"batch_size": 16})
    together = evaluate(run, run.splits.validation)
    assert_close(together[:2], alone[:2])
    assert_close(together.metrics, alone.metrics)


@pytest.mark.parametrize(("task", "base"), TASK_BASES)
def test_label_smoothing_is_torchs(make_run: Callable[..., TrainingRun], task: str, base: str) -> None:
    run = make_run(task, base, FULL, label_smoothing=0.2)
    examples = list(run.splits.training)
    batch = to_device(run.task.collate(examples, run.context))
    if task == "chat":
        padded = to_device(run.task.collate(examples, replace(run.context, packed=False)))
        logits = run.model(padded["input_ids"]).logits.flatten(0, 1)[padded["positions_N"]]
        expected = cross_entropy(logits, padded["targets_N"], label_smoothing=0.2)
    else:
        targets = batch.pop("truth_BL").int().argmax(-1)
        expected = cross_entropy(run.model(**batch).logits, targets, label_smoothing=0.2)
    assert_close(compute_step(run, examples).loss, expected.item())


def test_clipping_bounds_the_gradient_norm(make_run: Callable[..., TrainingRun]) -> None:
    run = make_run("text-classification", "encoder_base", FULL, max_grad_norm=1e-3)
    norm = compute_step(run, list(run.splits.training)).grad_norm
    assert norm > 1e-3
    clipped = torch.cat([grad.flatten() for grad in copy_gradients(run).values()]).norm()
    assert_close(float(clipped), 1e-3)


@pytest.mark.parametrize(("task", "base"), TASK_BASES)
@pytest.mark.parametrize("update", [LORA, FULL], ids=["lora", "full"])
def test_training_learns_and_only_the_named_weights_move(
    make_run: Callable[..., TrainingRun], task: str, base: str, update: Any
) -> None:
    from training.trainer import loop
    from training.trainer.checkpoint import Progress

    run = make_run(task, base, update, n_epochs=12, learning_rate=0.01)
    before = {name: weight.detach().clone() for name, weight in run.model.named_parameters()}
    lines: list[Any] = []
    run.emit = lines.append
    loop.train(run, Progress())
    after = dict(run.model.named_parameters())
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    expected = set(weights.get_trainable_parameters(run.model))
    if update is LORA:
        assert all("lora_" in name or "modules_to_save" in name for name in moved)
        assert any("modules_to_save" in name for name in moved) == (task == "text-classification")
    else:
        assert expected == set(before)
    # An embedding row that no batch uses may stay unchanged; a complete weight may not.
    assert moved == expected
    losses = [line.train_loss for line in lines if isinstance(line, Metrics)]
    assert sum(losses[-3:]) < 0.8 * sum(losses[:3])


def test_labels_are_sorted_and_answers_name_them(tmp_path: Path, encoder_base: Path) -> None:
    lines = run_training(create_run_folder(tmp_path / "run", encoder_base, "text-classification", FULL))
    assert '"labels": [\n      "apple",\n      "pear"\n    ]' in (tmp_path / "run/result/luthier.json").read_text()
    assert lines.of_type(Metrics)[-1].train_accuracy == 1.0


def test_single_and_batched_encodings_are_equal(
    chat_base: Path, tmp_path: Path, make_run: Callable[..., TrainingRun]
) -> None:
    run = make_run("text-classification", "encoder_base", FULL)
    rows = [run.task.row_schema.model_validate(row) for row in (*LABEL_ROWS, {**LABEL_ROWS[0], "text_pair": "b"})]
    tokenizer = prepare(run.folder, TrainSpec.read(run.folder), StopFlag()).base.processor
    together = run.task.encode(rows, tokenizer, 100)
    assert together == [run.task.encode([row], tokenizer, 100)[0] for row in rows]

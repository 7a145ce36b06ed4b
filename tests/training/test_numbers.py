"""The numbers of training, pinned by equalities."""

from __future__ import annotations

from array import array
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM, Gemma2Config, Gemma2ForCausalLM

from tests.training.workshop import FULL, LABEL_ROWS, LORA, TASK_ROWS, make_folder, trained
from training import weights
from training.assemble import assemble
from training.loop import Run, Stop, _evaluate, _gradients
from training.prepare import prepare
from training.report import Metrics
from training.spec import TrainSpec
from training.tasks.causal import target_logits, transforms_logits
from training.tasks.chat import Chat
from training.updates.lora import LoraUpdate

TASKS = [("chat", "chat_base"), ("text-classification", "encoder_base")]


@pytest.fixture
def make_run(tmp_path: Path, request: pytest.FixtureRequest) -> Any:
    def make(task: str, base: str, update: dict[str, Any], **hyper: Any) -> Run:
        folder = tmp_path / f"run{len(list(tmp_path.iterdir()))}"
        rows = TASK_ROWS[task]
        make_folder(folder, request.getfixturevalue(base), task, update, validation=rows, hyperparameters=hyper)
        spec = TrainSpec.read(folder)
        run = assemble(folder, spec, prepare(folder, spec, Stop()), lambda line: None, Stop())
        run.model.eval()
        return run

    return make


def close(left: Any, right: Any) -> None:
    torch.testing.assert_close(left, right, rtol=1e-4, atol=1e-6)


def gradients(run: Run) -> dict[str, torch.Tensor]:
    return {name: weight.grad.clone() for name, weight in run.trained.items() if weight.grad is not None}


def test_logits_at_targets_are_the_models_own(chat_base: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(chat_base).eval()
    ids_BT = torch.randint(5, 200, (3, 17))
    positions_N = torch.tensor([0, 5, 16, 20, 49])
    close(target_logits(model, ids_BT, positions_N), model(ids_BT).logits.flatten(0, 1)[positions_N])


@pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings:UserWarning", "ignore:.*tied:UserWarning")
def test_through_an_adapter_too(chat_base: Path) -> None:
    base = AutoModelForCausalLM.from_pretrained(chat_base)
    model = LoraUpdate(rank=4, target_modules=["q_proj", "lm_head"]).apply(base, Chat()).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.normal_()
    ids_BT = torch.randint(5, 200, (3, 17))
    positions_N = torch.tensor([0, 5, 16, 20, 49])
    close(target_logits(model, ids_BT, positions_N), model(ids_BT).logits.flatten(0, 1)[positions_N])


def test_models_that_transform_their_logits_use_their_own_forward() -> None:
    config = Gemma2Config(
        vocab_size=50,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        final_logit_softcapping=0.01,
    )
    model = Gemma2ForCausalLM(config).eval()
    assert transforms_logits(config)
    ids_BT = torch.randint(5, 50, (2, 6))
    logits_NV = target_logits(model, ids_BT, torch.tensor([1, 8]))
    assert logits_NV.abs().max() <= 0.01
    close(logits_NV, model(ids_BT).logits.flatten(0, 1)[[1, 8]])


def test_the_chat_loss_is_the_textbooks(make_run: Any) -> None:
    """Against the model's own loss with labels, row by row, weighted by hand."""
    run = make_run("chat", "chat_base", FULL)
    examples = list(run.training)
    total, correct = 0.0, 0
    for example in examples:
        ids = torch.tensor([list(example.ids)])
        labels = ids.masked_fill(torch.tensor([list(example.weights)]) == 0, -100)
        out = run.model(input_ids=ids, labels=labels)
        count = int((labels != -100).sum())
        total += out.loss.item() * count
        guesses = out.logits[0, :-1].argmax(-1)
        correct += int((guesses == labels[0, 1:]).sum())
    count = sum(run.task.targets(example) for example in examples)
    loss, accuracy, _ = _gradients(run, examples)
    close((loss, accuracy), (total / count, correct / count))


def test_a_rows_weight_scales_its_part(make_run: Any) -> None:
    run = make_run("chat", "chat_base", FULL)
    first, second = run.training[:2]
    heavy = type(second)(second.ids, second.cut, array("f", [3 * weight for weight in second.weights]))
    alone = [_gradients(run, [example])[0] for example in (first, second)]
    counts = [run.task.targets(first), 3 * run.task.targets(second)]
    expected = (alone[0] * counts[0] + alone[1] * counts[1]) / sum(counts)
    close(_gradients(run, [first, heavy])[0], expected)


@pytest.mark.parametrize(("task", "base"), TASKS)
@pytest.mark.parametrize("parts", [2, 3, 6])
def test_accumulated_gradients_equal_the_big_batch(make_run: Any, task: str, base: str, parts: int) -> None:
    whole, split = (make_run(task, base, FULL, gradient_accumulation_steps=count) for count in (1, parts))
    close(_gradients(whole, list(whole.training[:6])), _gradients(split, list(split.training[:6])))
    close(gradients(whole), gradients(split))


@pytest.mark.parametrize(("task", "base"), TASKS)
def test_padding_changes_nothing(make_run: Any, task: str, base: str) -> None:
    run = make_run(task, base, FULL, batch_size=1)
    alone = _evaluate(run)
    run.hyper = run.hyper.model_copy(update={"batch_size": 16})
    run.model.eval()
    close(_evaluate(run), alone)


@pytest.mark.parametrize(("task", "base"), TASKS)
def test_label_smoothing_is_torchs(make_run: Any, task: str, base: str) -> None:
    run = make_run(task, base, FULL, label_smoothing=0.2)
    examples = list(run.training)
    batch = run.task.collate(examples, run.state, run.pad)
    if task == "chat":
        logits = target_logits(run.model, batch["ids_BT"], batch["positions_N"])
        expected = cross_entropy(logits, batch["targets_N"], label_smoothing=0.2)
    else:
        targets = batch.pop("targets_B")
        expected = cross_entropy(run.model(**batch).logits, targets, label_smoothing=0.2)
    close(_gradients(run, examples)[0], expected.item())


def test_clipping_bounds_the_norm_that_is_told(make_run: Any) -> None:
    run = make_run("text-classification", "encoder_base", FULL, max_grad_norm=1e-3)
    *_, norm = _gradients(run, list(run.training))
    assert norm > 1e-3
    clipped = torch.cat([grad.flatten() for grad in gradients(run).values()]).norm()
    close(float(clipped), 1e-3)


@pytest.mark.parametrize(("task", "base"), TASKS)
@pytest.mark.parametrize("update", [LORA, FULL], ids=["lora", "full"])
def test_training_learns_and_only_the_named_weights_move(make_run: Any, task: str, base: str, update: Any) -> None:
    from training import loop
    from training.checkpoint import Progress

    run = make_run(task, base, update, n_epochs=12, learning_rate=0.01)
    before = {name: weight.detach().clone() for name, weight in run.model.named_parameters()}
    lines: list[Any] = []
    run.emit = lines.append
    loop.train(run, Progress())
    after = dict(run.model.named_parameters())
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    expected = set(weights.trainable(run.model))
    if update is LORA:
        assert all("lora_" in name or "modules_to_save" in name for name in moved)
        assert any("modules_to_save" in name for name in moved) == (task == "text-classification")
    else:
        assert expected == set(before)
    # An embedding row that no batch reads and no decay touches may stay; a whole weight may not.
    assert moved == expected
    losses = [line.train_loss for line in lines if isinstance(line, Metrics)]
    assert sum(losses[-3:]) < 0.8 * sum(losses[:3])


def test_labels_are_sorted_and_answers_name_them(tmp_path: Path, encoder_base: Path) -> None:
    lines = trained(make_folder(tmp_path / "run", encoder_base, "text-classification", FULL))
    assert '"labels": [\n      "apple",\n      "pear"\n    ]' in (tmp_path / "run/result/luthier.json").read_text()
    assert lines.of(Metrics)[-1].train_accuracy == 1.0


def test_rows_are_encoded_alike_alone_and_together(chat_base: Path, tmp_path: Path, make_run: Any) -> None:
    run = make_run("text-classification", "encoder_base", FULL)
    rows = [run.task.row.model_validate(row) for row in (*LABEL_ROWS, {**LABEL_ROWS[0], "text_pair": "b"})]
    tokenizer = prepare(run.folder, TrainSpec.read(run.folder), Stop()).base.tokenizer
    together = run.task.encode(rows, tokenizer, 100)
    assert together == [run.task.encode([row], tokenizer, 100)[0] for row in rows]

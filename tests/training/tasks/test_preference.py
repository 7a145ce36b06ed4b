"""Tests for preference training: the papers' loss formulas, the reference, and complete runs."""

from __future__ import annotations

import json
from array import array
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from math import log
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.tiny import build_byte_tokenizer
from tests.training.run_folders import LORA, create_run_folder, run_training
from training import tasks
from training.artifacts import serving
from training.data.dataset import DatasetReader
from training.data.encoding import RowEncoder
from training.models.logprobs import compute_from_hidden
from training.progress import ignore_progress
from training.run_events import Metrics
from training.tasks.base import LossSettings, RowIssue, TaskContext, pad_right
from training.tasks.chat import Chat, ChatRow
from training.tasks.chat_format.rows import Message
from training.tasks.chat_format.template import ChatTemplate
from training.tasks.preference import (
    REFERENCE_BATCH_TOKENS,
    ChatPreference,
    PreferenceExample,
    PreferenceRow,
    _batch_by_length,
)
from training.tasks.support.causal import CausalExample
from training.updates.lora import LoraUpdate

TASK = ChatPreference()


def build_message(role: str, content: str, **extra: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **extra}


def build_row(question: str = "Hi", chosen: str = "Hello!", rejected: str = "What?") -> dict[str, Any]:
    return {
        "input": {"messages": [build_message("user", question)]},
        "preferred_output": [build_message("assistant", chosen)],
        "non_preferred_output": [build_message("assistant", rejected)],
    }


ROWS = [
    build_row(f"Number {number}?", "It is even, I am sure." if number % 2 else "Even.", "No idea.")
    for number in range(6)
]


def encode_rows(rows: Sequence[dict[str, Any]], tokenizer: Any, limit: int = 1000) -> list[PreferenceExample]:
    parsed = [PreferenceRow.model_validate(row) for row in rows]
    assert not [issue for row in parsed for issue in TASK.check_row(row)]
    examples = TASK.encode(parsed, tokenizer, limit)
    assert not [example for example in examples if isinstance(example, RowIssue)]
    return examples  # type: ignore[return-value]


def decode_trained_text(tokenizer: Any, example: CausalExample) -> str:
    text = tokenizer.decode([token for token, weight in zip(example.ids, example.weights, strict=True) if weight])
    assert isinstance(text, str)
    return text


@cache
def load_model_and_tokenizer(folder: Path) -> tuple[Any, Any]:
    return AutoModelForCausalLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)


def load_perturbed_model(folder: Path) -> Any:
    """Load a model that has the base's shape and different weights."""
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.03 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(weight.numel())))
    return model


def build_task_context(tokenizer: Any, **objective: Any) -> TaskContext:
    return TaskContext(tokenizer, objective=LossSettings(**objective), logprob_fn=compute_from_hidden)


def sum_logprobs(model: Any, example: CausalExample) -> torch.Tensor:
    """Sum the targets' log-probabilities in double precision, from the model's logits."""
    ids = torch.tensor([list(example.ids)])
    logprobs = model(ids).logits[0, :-1].double().log_softmax(-1)
    picked = logprobs.gather(-1, ids[0, 1:, None]).squeeze(-1)
    return picked @ torch.tensor(list(example.weights[1:]), dtype=torch.float64).bool().double()


def test_the_outputs_are_the_targets_and_the_prompt_is_shared() -> None:
    tokenizer = build_byte_tokenizer()
    older_names = {
        "preferred_completion": build_row()["preferred_output"],
        "non_preferred_completion": build_row()["non_preferred_output"],
    }
    first, second = encode_rows([build_row(), {"input": build_row()["input"], **older_names}], tokenizer)
    assert first == second
    assert decode_trained_text(tokenizer, first.chosen) == "Hello!<|end|>"
    assert decode_trained_text(tokenizer, first.rejected) == "What?<|end|>"
    prompt = Chat().encode_prompt([Message(role="user", content="Hi")], ChatTemplate(tokenizer))
    assert list(first.chosen.ids[: len(prompt)]) == list(first.rejected.ids[: len(prompt)]) == prompt
    assert first.size == first.chosen.size + first.rejected.size
    assert (TASK.count_targets(first), TASK.sum_weights(first, build_task_context(tokenizer))) == (1, 1.0)


def test_only_outputs_are_compared() -> None:
    """Answers in the input and messages with weight 0 are not targets."""
    tokenizer = build_byte_tokenizer()
    long = build_row()
    long["input"]["messages"] = [
        build_message("user", "a"),
        build_message("assistant", "b"),
        build_message("user", "c"),
    ]
    long["preferred_output"] = [build_message("assistant", "d", weight=0), build_message("assistant", "e")]
    [example] = encode_rows([long], tokenizer)
    assert decode_trained_text(tokenizer, example.chosen) == "e<|end|>"
    assert decode_trained_text(tokenizer, example.rejected) == "What?<|end|>"
    conversation = {"messages": [*long["input"]["messages"], *long["non_preferred_output"]]}
    [examples] = Chat().encode([ChatRow.model_validate(conversation)], tokenizer, 1000)
    assert isinstance(examples, list)
    [whole] = examples
    assert example.rejected.ids == whole.ids


def test_long_pairs_are_truncated_and_need_targets() -> None:
    tokenizer = build_byte_tokenizer()
    [example] = encode_rows([build_row(chosen="a" * 40)], tokenizer, limit=20)
    assert (example.truncated, example.chosen.size, example.chosen.truncated, example.rejected.truncated) == (
        True,
        20,
        True,
        False,
    )
    issues = TASK.encode([PreferenceRow.model_validate(build_row("a" * 40))], tokenizer, 20)
    assert [(issue.code, issue.field) for issue in issues if isinstance(issue, RowIssue)] == [
        ("too_long", "preferred_output")
    ]


@pytest.mark.parametrize(
    ("loss", "smoothing", "beta"), [("sigmoid", 0.0, 0.1), ("sigmoid", 0.2, 0.5), ("ipo", 0.0, 0.1), ("ipo", 0.0, 1.0)]
)
def test_loss_and_gradients_are_the_textbooks(chat_base: Path, loss: str, smoothing: float, beta: float) -> None:
    reference, tokenizer = load_model_and_tokenizer(chat_base)
    ctx = build_task_context(tokenizer, loss=loss, beta=beta, label_smoothing=smoothing)
    examples = TASK.with_reference(encode_rows(ROWS, tokenizer), reference, ctx, ignore_progress)
    model = load_perturbed_model(chat_base)
    loss_sums = TASK.compute_loss(model, TASK.collate(examples, ctx), ctx)
    loss_sums.total.backward()
    gradients = {name: weight.grad.clone() for name, weight in model.named_parameters()}
    model.zero_grad()

    total = torch.zeros((), dtype=torch.float64)
    rewards = []
    for example in examples:
        with torch.no_grad():
            reference_sums = [sum_logprobs(reference, side) for side in (example.chosen, example.rejected)]
        ratios = [
            sum_logprobs(model, side) - reference_sum
            for side, reference_sum in zip((example.chosen, example.rejected), reference_sums, strict=True)
        ]
        if loss == "sigmoid":
            up, down = (1 / (1 + torch.exp(-sign * beta * (ratios[0] - ratios[1]))) for sign in (1, -1))
            total = total - (1 - smoothing) * up.log() - smoothing * down.log()
        else:
            lengths = [sum(map(bool, side.weights)) for side in (example.chosen, example.rejected)]
            total = total + (ratios[0] / lengths[0] - ratios[1] / lengths[1] - 1 / (2 * beta)) ** 2
        rewards.append([beta * ratio.item() for ratio in ratios])
    total.backward()
    torch.testing.assert_close(loss_sums.total.double(), total, rtol=1e-5, atol=1e-5)
    for name, weight in model.named_parameters():
        torch.testing.assert_close(gradients[name], weight.grad, rtol=1e-3, atol=1e-5)
    assert loss_sums.outputs is not None
    expected_rewards = torch.tensor(rewards, dtype=torch.float64)
    torch.testing.assert_close(loss_sums.outputs.double(), expected_rewards, rtol=1e-4, atol=1e-5)
    assert loss_sums.correct == sum(chosen > rejected for chosen, rejected in rewards)
    assert not loss_sums.outputs.requires_grad


def test_a_batch_is_the_sum_of_its_pairs(chat_base: Path) -> None:
    reference, tokenizer = load_model_and_tokenizer(chat_base)
    ctx = build_task_context(tokenizer)
    examples = TASK.with_reference(encode_rows(ROWS, tokenizer), reference, ctx, ignore_progress)
    batched, separate = load_perturbed_model(chat_base), load_perturbed_model(chat_base)
    whole = TASK.compute_loss(batched, TASK.collate(examples, ctx), ctx)
    whole.total.backward()
    losses = [TASK.compute_loss(separate, TASK.collate([example], ctx), ctx) for example in examples]
    for loss in losses:
        loss.total.backward()
    torch.testing.assert_close(whole.total, sum(loss.total for loss in losses), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(whole.outputs, torch.cat([loss.outputs for loss in losses if loss.outputs is not None]))
    for left, right in zip(batched.parameters(), separate.parameters(), strict=True):
        torch.testing.assert_close(left.grad, right.grad, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("trained_before", [False, True])
def test_the_starting_model_has_no_reward_and_a_loss_of_log_2(chat_base: Path, trained_before: bool) -> None:
    tokenizer = load_model_and_tokenizer(chat_base)[1]
    update = LoraUpdate.model_validate({**LORA, "dropout": 0.5})
    model = update.apply(TASK.load_model(chat_base, {}, torch.float32), TASK)
    if trained_before:
        with torch.no_grad():
            for name, weight in model.named_parameters():
                if "lora_B" in name:
                    weight.normal_()
    model.train()
    frozen = next(module for module in model.modules() if module is not model)
    frozen.training = False
    modes = [module.training for module in model.modules()]
    ctx = build_task_context(tokenizer)
    examples = TASK.with_reference(encode_rows(ROWS, tokenizer), model, ctx, ignore_progress)
    assert [module.training for module in model.modules()] == modes
    assert examples == TASK.with_reference(encode_rows(ROWS, tokenizer), model, ctx, ignore_progress), (
        "the reference is not reproducible"
    )
    model.eval()
    loss = TASK.compute_loss(model, TASK.collate(examples, ctx), ctx)
    assert loss.outputs is not None
    assert loss.outputs.abs().max() <= 1e-6
    assert loss.total.item() == pytest.approx(len(examples) * log(2), rel=1e-6)
    assert all(not weight.grad for weight in model.parameters())


def test_reference_logprobs_are_computed_in_batches_of_bounded_size(chat_base: Path) -> None:
    """Batches have the longest rows first, each row once, and do not affect the results."""
    model, tokenizer = load_model_and_tokenizer(chat_base)
    rows = [build_row("a" * (number % 7), "b" * (1 + number % 50), "c" * (1 + number % 3)) for number in range(60)]
    examples = encode_rows(rows, tokenizer)
    batches = list(_batch_by_length(examples))
    assert len(batches) > 2
    assert sorted(index for batch in batches for index in batch) == list(range(60))
    longest = [
        [max(examples[index].chosen.size, examples[index].rejected.size) for index in batch] for batch in batches
    ]
    in_order = [size for sizes in longest for size in sizes]
    assert in_order == sorted(in_order, reverse=True)
    assert all(2 * len(sizes) * sizes[0] <= REFERENCE_BATCH_TOKENS for sizes in longest)
    together = TASK.with_reference(examples, model, build_task_context(tokenizer), ignore_progress)
    for example in together[::7]:
        [alone] = TASK.with_reference(
            [replace(example, reference_logprobs=None)], model, build_task_context(tokenizer), ignore_progress
        )
        assert example.reference_logprobs is not None
        assert alone.reference_logprobs is not None
        for batched, single in zip(example.reference_logprobs, alone.reference_logprobs, strict=True):
            torch.testing.assert_close(torch.tensor(batched), torch.tensor(single), rtol=1e-5, atol=1e-5)
        assert sum(example.reference_logprobs[0]) == pytest.approx(sum_logprobs(model, example.chosen).item(), rel=1e-5)


def test_metrics() -> None:
    outputs = [torch.tensor(pair) for pair in ([1.0, 0.5], [0.0, 2.0], [0.5, 0.25], [0.0, 0.0])]
    assert TASK.compute_metrics([], outputs, build_task_context(None)) == {
        "reward_margin": -0.3125,
        "reward_accuracy": 0.5,
        "reward_chosen": 0.375,
        "reward_rejected": 0.6875,
    }
    assert TASK.compute_metrics([], outputs, build_task_context(None)).keys() == TASK.metrics.keys()


CALL = {"id": "x", "type": "function", "function": {"name": "f", "arguments": "{}"}}


@pytest.mark.parametrize(
    ("change", "expected_errors"),
    [
        ({}, []),
        (
            {"input": {"messages": [build_message("assistant", "Ask me.")], "tools": [], "parallel_tool_calls": True}},
            [],
        ),
        ({"input": {}}, [("missing_field", "input.messages")]),
        ({"input": {"messages": []}}, [("empty_content", "input.messages")]),
        ({"input": {"messages": [{"role": "user"}]}}, [("missing_field", "input.messages[0].content")]),
        ({"input": {"messages": [build_message("user", "a")], "weight": 1}}, [("unknown_field", "input.weight")]),
        ({"preferred_output": []}, [("empty_content", "preferred_output")]),
        ({"preferred_output": build_message("assistant", "a")}, [("wrong_type", "preferred_output")]),
        ({"preferred_output": [build_message("user", "a")]}, [("wrong_value", "preferred_output[0].role")]),
        ({"preferred_output": [build_message("assistant", " ")]}, [("empty_content", "preferred_output[0].content")]),
        ({"preferred_output": [build_message("assistant", "a", weight=0)]}, [("no_target", "preferred_output")]),
        ({"preferred_output": build_row()["non_preferred_output"]}, [("wrong_value", "non_preferred_output")]),
        ({"preferred_completion": build_row()["preferred_output"]}, [("unknown_field", "preferred_completion")]),
        ({"rejected": "a"}, [("unknown_field", "rejected")]),
        (
            {"preferred_output": [{"role": "assistant", "tool_calls": [CALL]}]},
            [("template", "input.messages[1].tool_calls[0]")],
        ),
        (
            {
                "input": {
                    "messages": [build_message("user", "a")],
                    "tools": [{"type": "function", "function": {"name": "f"}}],
                }
            },
            [("template", "input.tools")],
        ),
    ],
)
def test_rows_that_cannot_be_learned(tmp_path: Path, change: dict[str, Any], expected_errors: Any) -> None:
    (tmp_path / "data").write_text(json.dumps({**build_row(), **change}))
    data = DatasetReader(RowEncoder(TASK, build_byte_tokenizer(), {}, 1000), ignore_progress).read(
        tmp_path / "data", "training_file"
    )
    assert [(error.code, error.field) for error in data.errors] == expected_errors


def test_a_missing_output_has_its_current_name(tmp_path: Path) -> None:
    (tmp_path / "data").write_text(json.dumps({"input": build_row()["input"]}))
    data = DatasetReader(RowEncoder(TASK, build_byte_tokenizer(), {}, 1000), ignore_progress).read(
        tmp_path / "data", "training_file"
    )
    assert [error.field for error in data.errors] == ["preferred_output", "non_preferred_output"]


@pytest.mark.parametrize("loss", ["sigmoid", "ipo"])
def test_a_run_raises_the_margin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chat_base: Path, loss: str) -> None:
    """The result is a chat model."""
    monkeypatch.setitem(tasks.TASKS_BY_METHOD, "dpo", {"chat": TASK})
    hyper = {
        "n_epochs": 8,
        "batch_size": 3,
        "learning_rate": 0.01,
        "loss": loss,
        "beta": 0.1 if loss == "sigmoid" else 1.0,
    }
    folder = create_run_folder(
        tmp_path / "run", chat_base, "chat", LORA, method="dpo", hyperparameters=hyper, training=ROWS, validation=ROWS
    )
    steps = run_training(folder).of_type(Metrics)
    evaluations = [step for step in steps if step.measures]
    assert evaluations[-1].measures.keys() == TASK.metrics.keys()
    assert evaluations[-1].measures["reward_margin"] > max(0.02, evaluations[0].measures["reward_margin"])
    assert evaluations[-1].measures["reward_accuracy"] == evaluations[-1].valid_accuracy == 1.0
    assert evaluations[-1].valid_loss < evaluations[0].valid_loss
    assert steps[0].train_loss == pytest.approx(log(2) if loss == "sigmoid" else 0.25, rel=0.05)
    served = serving.load(chat_base, folder / "result", "chat")
    reference, tokenizer = load_model_and_tokenizer(chat_base)
    example = encode_rows(ROWS, tokenizer)[0]
    with torch.inference_mode():
        gains = [
            sum_logprobs(served.model, side) - sum_logprobs(reference, side)
            for side in (example.chosen, example.rejected)
        ]
    assert gains[0] > gains[1]


@pytest.mark.filterwarnings("ignore")
def test_losses_and_rewards_are_those_of_trl(tmp_path: Path, chat_base: Path) -> None:
    """Compares with TRL's trainer on the same tokens and models."""
    trl = pytest.importorskip("trl")
    datasets = pytest.importorskip("datasets")
    reference, tokenizer = load_model_and_tokenizer(chat_base)
    model = load_perturbed_model(chat_base)
    ctx = build_task_context(tokenizer)
    examples = TASK.with_reference(encode_rows(ROWS, tokenizer), reference, ctx, ignore_progress)
    sides = [*(example.chosen for example in examples), *(example.rejected for example in examples)]
    inputs = {
        "input_ids": pad_right([side.ids for side in sides], ctx.pad_token_id),
        "attention_mask": pad_right([array("i", [1]) * side.size for side in sides], 0),
        "completion_mask": pad_right([array("i", map(bool, side.weights)) for side in sides], 0),
    }
    for loss in ("sigmoid", "ipo"):
        trainer = trl.DPOTrainer(
            model=model,
            ref_model=load_perturbed_model(chat_base),
            args=trl.DPOConfig(str(tmp_path), beta=0.3, loss_type=[loss], report_to=[], use_cpu=True, bf16=False),
            train_dataset=datasets.Dataset.from_list([{"prompt": "a", "chosen": "b", "rejected": "c"}]),
            processing_class=tokenizer,
        )
        trainer.ref_model.load_state_dict(reference.state_dict())
        model.eval()
        with torch.no_grad():
            theirs = trainer.compute_loss(model, inputs)
            ours_ctx = build_task_context(tokenizer, loss=loss, beta=0.3)
            ours = TASK.compute_loss(model, TASK.collate(examples, ours_ctx), ours_ctx)
        torch.testing.assert_close(ours.total / len(examples), theirs, rtol=1e-5, atol=1e-6)
        metrics = trainer._metrics["eval"]
        rewards = TASK.compute_metrics(examples, list(ours.outputs if ours.outputs is not None else ()), ours_ctx)
        for name, theirs_name in [
            ("chosen", "rewards/chosen"),
            ("rejected", "rewards/rejected"),
            ("margin", "rewards/margins"),
        ]:
            assert rewards[f"reward_{name}"] == pytest.approx(metrics[theirs_name][-1], rel=1e-4, abs=1e-5)

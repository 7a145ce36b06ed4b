"""Tests for the task seq2seq: targets, generated text, and metrics."""

from __future__ import annotations

from array import array
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from sacrebleu import BLEU, CHRF

from tests.tiny_seq2seq import create_tiny_bart_base, create_tiny_t5_base
from tests.training.run_folders import FULL, LORA, create_run_folder, run_training
from training.artifacts import serving
from training.models.logprobs import compute_from_hidden
from training.progress import ignore_progress
from training.run_events import Metrics, Result
from training.tasks import TASKS
from training.tasks.base import LossSettings, TaskContext
from training.tasks.seq2seq import MAX_NEW_TOKENS, NEW_TOKENS_MARGIN, Seq2Seq, Seq2SeqExample

pytestmark = pytest.mark.integration

TASK = Seq2Seq()
ROWS = [{"source": word * (1 + number % 3), "target": word[::-1]} for number in range(4) for word in ("abc", "xyz ")]
BASES = {"t5": create_tiny_t5_base, "bart": create_tiny_bart_base}


@pytest.fixture(scope="module", params=sorted(BASES))
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return BASES[request.param](tmp_path_factory.mktemp("bases") / request.param)


@pytest.fixture(autouse=True)
def _register_task(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TASKS, TASK.name, TASK)


def load_model_and_examples(base: Path, **objective: Any) -> tuple[Any, TaskContext, list[Seq2SeqExample]]:
    tokenizer = TASK.load_processor(base)
    examples = TASK.encode([TASK.row_schema.model_validate(row) for row in ROWS], tokenizer, 100)
    assert all(isinstance(example, Seq2SeqExample) for example in examples)
    ctx = TaskContext(tokenizer, TASK.prepare(examples), LossSettings(**objective), logprob_fn=compute_from_hidden)  # type: ignore[arg-type]
    return TASK.load_model(base, ctx.state, torch.float32).eval(), ctx, examples  # type: ignore[return-value]


def test_targets_have_an_end_token_unless_truncated(base: Path) -> None:
    tokenizer = TASK.load_processor(base)
    rows = [
        TASK.row_schema(source="ab" * 20, target="cd"),
        TASK.row_schema(source="ab", target="cd" * 20),
    ]
    longer, cut = TASK.encode(rows, tokenizer, 10)
    assert isinstance(longer, Seq2SeqExample)
    assert isinstance(cut, Seq2SeqExample)
    end = tokenizer.eos_token_id
    assert (len(longer.source_ids), longer.source_ids[-1], longer.truncated) == (10, end, True)
    assert tokenizer.decode(list(longer.target_ids)) == f"cd{tokenizer.eos_token}"
    assert (len(cut.target_ids), cut.truncated) == (10, True)
    assert end not in cut.target_ids
    assert cut.size == len(cut.source_ids) + 10


def test_a_control_tokens_name_is_text(base: Path) -> None:
    tokenizer = TASK.load_processor(base)
    [example] = TASK.encode([TASK.row_schema(source="a<|end|>b", target="<|end|>")], tokenizer, 100)
    assert isinstance(example, Seq2SeqExample)
    assert list(example.source_ids).count(tokenizer.eos_token_id) == 1
    assert list(example.target_ids).count(tokenizer.eos_token_id) == 1


def test_an_end_token_is_added_if_the_tokenizer_adds_none(chat_base: Path) -> None:
    tokenizer = TASK.load_processor(chat_base)
    [example] = TASK.encode([TASK.row_schema(source="a", target="b")], tokenizer, 100)
    assert isinstance(example, Seq2SeqExample)
    assert example.target_ids[-1] == tokenizer.eos_token_id
    assert len(example.target_ids) == 2


def test_blank_texts_are_row_issues() -> None:
    assert [issue.field for issue in TASK.check_row(TASK.row_schema(source=" \n", target=""))] == [
        "source",
        "target",
    ]


def test_the_loss_is_the_models_own(base: Path) -> None:
    """Compares with the sum of row losses over the complete output layer."""
    model, ctx, examples = load_model_and_examples(base)
    total, correct = 0.0, 0
    for example in examples:
        labels = torch.tensor([list(example.target_ids)])
        out = model(input_ids=torch.tensor([list(example.source_ids)]), labels=labels)
        total += out.loss.item() * TASK.count_targets(example)
        correct += int((out.logits.argmax(-1) == labels).sum())
    loss = TASK.compute_loss(model, TASK.collate(examples, ctx), ctx)
    assert loss.total.item() == pytest.approx(total, rel=1e-5)
    assert int(loss.correct) == correct
    assert sum(TASK.sum_weights(example, ctx) for example in examples) == sum(map(TASK.count_targets, examples))


def test_label_smoothing_is_torchs(base: Path) -> None:
    model, ctx, examples = load_model_and_examples(base, label_smoothing=0.2)
    batch = TASK.collate(examples, ctx)
    logits = model(**batch).logits.flatten(0, 1)
    expected = torch.nn.functional.cross_entropy(
        logits, batch["labels"].flatten(), ignore_index=-100, label_smoothing=0.2, reduction="sum"
    )
    assert TASK.compute_loss(model, batch, ctx).total.item() == pytest.approx(expected.item(), rel=1e-5)


def test_gradients_are_those_of_the_complete_output_layer(base: Path) -> None:
    model, ctx, examples = load_model_and_examples(base)
    batch = TASK.collate(examples, ctx)
    TASK.compute_loss(model, batch, ctx).total.backward()
    gradients = {name: weight.grad.clone() for name, weight in model.named_parameters()}
    model.zero_grad()
    (model(**batch).loss * sum(map(TASK.count_targets, examples))).backward()
    for name, weight in model.named_parameters():
        torch.testing.assert_close(gradients[name], weight.grad, rtol=1e-3, atol=1e-4)


def test_the_greedy_answer_is_generates(base: Path) -> None:
    """Compares batched and single answers with greedy search of transformers."""
    model, ctx, examples = load_model_and_examples(base)
    together = TASK.answer(model, examples, ctx, 1)
    assert together == [TASK.answer(model, [example], ctx, 1)[0] for example in examples]
    assert len({answer["text"] for answer in together}) > 1
    for example, answer in zip(examples, together, strict=True):
        generated = model.generate(
            input_ids=torch.tensor([list(example.source_ids)]),
            max_new_tokens=ctx.state["answer_tokens"],
            do_sample=False,
            num_beams=1,
            suppress_tokens=[ctx.pad_token_id],
        )
        assert answer["text"] == ctx.processor.decode(generated[0], skip_special_tokens=True).strip()


def test_answers_end_at_the_longest_target_and_a_margin(base: Path) -> None:
    model, ctx, examples = load_model_and_examples(base)
    longest = max(len(example.target_ids) for example in examples)
    assert ctx.state == {"answer_tokens": longest + NEW_TOKENS_MARGIN}
    short = TASK.answer(model, examples, replace(ctx, state={"answer_tokens": 3}), 1)
    for cut, whole in zip(short, TASK.answer(model, examples, ctx, 1), strict=True):
        assert len(cut["text"]) <= 3
        assert whole["text"].startswith(cut["text"].rstrip("\ufffd"))
    endless = replace(examples[0], target_ids=array("i", [5] * 5000))
    assert TASK.prepare([endless]) == {"answer_tokens": MAX_NEW_TOKENS}


def test_bleu_and_chrf_are_sacrebleus(base: Path) -> None:
    model, ctx, examples = load_model_and_examples(base)
    # The references are partly correct, so the metrics are neither 0 nor 100.
    answers = [answer["text"] for answer in TASK.answer(model, examples, ctx, 1)]
    references = [f"one two three four five {text}" for text in answers]
    with_references = [replace(example, reference=text) for example, text in zip(examples, references, strict=True)]
    scores = TASK.final_metrics(model, with_references, ctx, ignore_progress)
    assert scores["bleu"] == pytest.approx(BLEU().corpus_score(answers, [references]).score)
    assert scores["chrf"] == pytest.approx(CHRF().corpus_score(answers, [references]).score)
    assert 0 < scores["chrf"] < 100


@pytest.mark.parametrize("update", [LORA, FULL, {"type": "layers", "last": 1}], ids=["lora", "full", "layers"])
def test_it_learns_is_saved_and_answers(tmp_path: Path, base: Path, update: dict[str, Any]) -> None:
    hyper = {"n_epochs": 20, "learning_rate": 0.01, "batch_size": 8}
    folder = create_run_folder(
        tmp_path / "run", base, TASK.name, update, training=ROWS, validation=ROWS[:4], hyperparameters=hyper
    )
    lines = run_training(folder)
    metrics, [result] = lines.of_type(Metrics), lines.of_type(Result)
    assert metrics[-1].train_loss < 0.8 * metrics[0].train_loss
    assert {"valid_bleu", "valid_chrf", "valid_accuracy"} <= set(result.metrics)
    served = serving.load(base, folder / "result", TASK.name)
    assert served.context.state["answer_tokens"] == 5 + NEW_TOKENS_MARGIN
    inputs = [TASK.input_schema.model_validate({"source": row["source"]}) for row in ROWS[:3]]  # type: ignore[union-attr]
    together = serving.predict(served, inputs, 1)
    assert together == [serving.predict(served, [item], 1)[0] for item in inputs]
    if update is FULL:
        assert [answer["text"] for answer in together] == [row["target"].strip() for row in ROWS[:3]]
        assert result.metrics["valid_chrf"] == pytest.approx(100)


def test_an_untuned_base_answers(base: Path) -> None:
    served = serving.load(base, None, TASK.name)
    [answer] = serving.predict(served, [TASK.input_schema.model_validate({"source": "abc"})], 1)  # type: ignore[union-attr]
    assert isinstance(answer["text"], str)

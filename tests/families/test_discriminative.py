"""Tests for tasks other than generation on decoder bases.

A prediction does not depend on its batch, and plain transformers computes the same numbers from the
saved files.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from tests.families.catalog import DECODERS
from tests.training.run_folders import LABEL_ROWS, Row, create_run_folder, hash_files, run_training
from training import run as runs
from training.artifacts import serving
from training.errors import Interrupted
from training.models.support import check_base
from training.run_events import Metrics, Result, RunEvent
from training.tasks import TASKS
from training.tasks.support.text import TextInput
from training.tasks.token_classification import WordsInput
from training.trainer.state import StopFlag

pytestmark = pytest.mark.integration

LORA: Row = {"type": "lora", "rank": 4}
UPDATES: dict[str, Row] = {
    "lora": LORA,
    "full": {"type": "full"},
    "head": {"type": "head"},
    "layers": {"type": "layers", "last": 1},
}
HYPER: Row = {"max_steps": 2, "batch_size": 4, "learning_rate": 0.01}
TEXTS = ["apple", "apple apple pear pear apple pear pear", "pear pear " * 9, "x <|endoftext|> <eos> <pad> </s> y"]
TOLERANCE = 1e-5
"""Padding changes the shapes of the matrix products, and with them the order of their sums."""

# Bases whose architecture transformers can classify with.
CLASSIFIERS = [name for name in DECODERS if name != "granite"]


def load_stock_logits(directory: Path, texts: list[str], encode: Any) -> torch.Tensor:
    """Return the logits of a padded batch from plain transformers."""
    tokenizer = AutoTokenizer.from_pretrained(directory)
    model = AutoModelForSequenceClassification.from_pretrained(directory, dtype=torch.float32).eval()
    batch = tokenizer.pad({"input_ids": encode(texts)}, padding_side="right", return_tensors="pt")
    with torch.inference_mode():
        logits: torch.Tensor = model(**batch).logits
    return logits


def build_cases() -> Iterator[Any]:
    """Yield every family with every update; the slow ones differ little from the others."""
    sample = {"lora": set(CLASSIFIERS), "full": {"llama-3", "gemma-3"}, "head": {"gpt-neox"}, "layers": {"gpt-neox"}}
    for update, fast in sample.items():
        for name in CLASSIFIERS:
            yield pytest.param(name, update, marks=() if name in fast else pytest.mark.slow)


@pytest.mark.parametrize(("name", "update"), list(build_cases()))
def test_a_classifier_does_not_depend_on_its_batch(tmp_path: Path, name: str, update: str) -> None:
    base = DECODERS[name].create_base(tmp_path / "base")
    folder = create_run_folder(tmp_path / "run", base, "text-classification", UPDATES[update], hyperparameters=HYPER)
    run_training(folder)
    served = serving.load(base, folder / "result", "text-classification")
    inputs = [TextInput(text=text) for text in TEXTS]
    batched = serving.predict(served, inputs, 2)
    for text, answer in zip(inputs, batched, strict=True):
        [alone] = serving.predict(served, [text], 2)
        assert alone["scores"] == pytest.approx(answer["scores"], abs=TOLERANCE)

    serving.merge(base, folder / "result", tmp_path / "merged")
    ids = [list(served.task.encode_inputs([text], served.context.processor, 512)[0].ids) for text in inputs]
    scores_BL = load_stock_logits(tmp_path / "merged", TEXTS, lambda texts: ids).softmax(-1)
    labels = served.context.state["labels"]
    for answer, scores_L in zip(batched, scores_BL, strict=True):
        assert answer["scores"] == pytest.approx(dict(zip(labels, scores_L.tolist(), strict=True)), abs=1e-4)


def test_a_resumed_classifier_equals_an_unbroken_one(tmp_path: Path) -> None:
    base = DECODERS["qwen3"].create_base(tmp_path / "base")
    whole, first = (
        create_run_folder(tmp_path / name, base, "text-classification", LORA, hyperparameters=HYPER)
        for name in ("whole", "first")
    )
    [expected] = run_training(whole).of_type(Result)
    stop = StopFlag()

    def stop_after_the_first_step(event: RunEvent) -> None:
        stop.requested = stop.requested or isinstance(event, Metrics)

    with pytest.raises(Interrupted):
        runs.train(first, stop_after_the_first_step, stop)
    (first / "checkpoints" / "step-1").rename(first / "resume")
    [result] = run_training(first).of_type(Result)
    assert result.resume_proof == expected.resume_proof
    assert hash_files(first / "result") == hash_files(whole / "result")


@pytest.mark.parametrize("pad", ["none", "eos", "disagreeing", "appended"])
def test_the_padding_token_does_not_matter(tmp_path: Path, pad: str) -> None:
    """Config and tokenizer may disagree, and a tokenizer may end each text with its padding."""
    base = DECODERS["gemma-3"].create_base(tmp_path / "base", pad_token_id=2 if pad == "disagreeing" else None)
    tokenizer = AutoTokenizer.from_pretrained(base)
    if pad == "none":
        tokenizer.pad_token = None
    elif pad == "eos":
        tokenizer.pad_token = tokenizer.eos_token
    elif pad == "appended":
        from tokenizers.processors import TemplateProcessing

        used = [(token, tokenizer.convert_tokens_to_ids(token)) for token in ("<bos>", "<pad>")]
        tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
            "<bos> $A <pad>", "<bos> $A <pad> $B <pad>", used
        )
    tokenizer.save_pretrained(base)
    folder = create_run_folder(tmp_path / "run", base, "text-classification", {"type": "full"}, hyperparameters=HYPER)
    run_training(folder)
    served = serving.load(base, folder / "result", "text-classification")
    inputs = [TextInput(text=text) for text in TEXTS]
    batched = serving.predict(served, inputs, 2)
    ids = [list(served.task.encode_inputs([text], served.context.processor, 512)[0].ids) for text in inputs]
    assert (pad == "appended") == (ids[0][-1] == tokenizer.convert_tokens_to_ids("<pad>"))
    scores_BL = load_stock_logits(folder / "result", TEXTS, lambda texts: ids).softmax(-1)
    labels = served.context.state["labels"]
    for text, answer, scores_L in zip(inputs, batched, scores_BL, strict=True):
        [alone] = serving.predict(served, [text], 2)
        assert alone["scores"] == pytest.approx(answer["scores"], abs=TOLERANCE)
        assert answer["scores"] == pytest.approx(dict(zip(labels, scores_L.tolist(), strict=True)), abs=1e-4)


ROWS: dict[str, list[Row]] = {
    "text-regression": [{"text": row["text"], "target": float(index)} for index, row in enumerate(LABEL_ROWS)],
    "token-classification": [
        {"tokens": ["see", "Rome" * (index % 3 + 1)], "tags": ["O", "B-city"]} for index in range(8)
    ],
    "embedding": [{"anchor": f"apple {index}", "positive": f"pear {index} pear"} for index in range(8)],
}
INPUTS: dict[str, list[Any]] = {
    "text-regression": [TextInput(text=text) for text in TEXTS],
    "token-classification": [WordsInput(text=text) for text in TEXTS],
    "embedding": [TextInput(text=text) for text in TEXTS],
}


def flatten(answer: Any) -> list[float]:
    """Return the numbers of an answer in order."""
    if isinstance(answer, dict):
        return [number for value in answer.values() for number in flatten(value)]
    if isinstance(answer, list):
        return [number for value in answer for number in flatten(value)]
    return [] if isinstance(answer, str) else [float(answer)]


@pytest.mark.parametrize("task", ROWS)
@pytest.mark.parametrize("name", ["llama-3", pytest.param("qwen3", marks=pytest.mark.slow), "gpt-neox"])
def test_other_predictions_do_not_depend_on_their_batch(tmp_path: Path, name: str, task: str) -> None:
    base = DECODERS[name].create_base(tmp_path / "base")
    folder = create_run_folder(tmp_path / "run", base, task, LORA, training=ROWS[task], hyperparameters=HYPER)
    run_training(folder)
    served = serving.load(base, folder / "result", task)
    batched = serving.predict(served, INPUTS[task], 2)
    for item, answer in zip(INPUTS[task], batched, strict=True):
        [alone] = serving.predict(served, [item], 2)
        assert flatten(alone) == pytest.approx(flatten(answer), abs=1e-4)


def test_a_text_without_tokens_is_refused(tmp_path: Path) -> None:
    base = DECODERS["qwen3"].create_base(tmp_path / "base")
    for name in ("text-classification", "text-regression"):
        task = TASKS[name]
        [issue] = task.encode_inputs([TextInput(text="")], task.load_processor(base), 512)
        assert issue.code == "empty_content"


@pytest.mark.parametrize(
    ("name", "task", "reason"),
    [
        ("granite", "text-classification", "no SequenceClassification model of the type 'granite'"),
        ("gemma-2", "question-answering", "no QuestionAnswering model"),
        ("qwen3", "question-answering", "reads from left to right"),
        ("qwen3", "seq2seq", "no Seq2SeqLM model"),
    ],
)
def test_a_task_that_does_not_fit_is_refused_with_the_reason(tmp_path: Path, name: str, task: str, reason: str) -> None:
    [text] = check_base(DECODERS[name].create_base(tmp_path / "base"), TASKS[task])
    assert reason in text

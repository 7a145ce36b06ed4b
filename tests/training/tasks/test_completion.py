"""Tests for the task completion: targets, and prompts that are equal in training and serving."""

from __future__ import annotations

import json
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from tests.tiny import build_byte_tokenizer, create_tiny_chat_base
from tests.training import run_folders
from tests.training.run_folders import FULL, LORA, create_run_folder, run_training
from training.artifacts import serving
from training.data.dataset import DatasetReader
from training.data.encoding import RowEncoder
from training.progress import ignore_progress
from training.run_events import Metrics, Result
from training.tasks import TASKS
from training.tasks.base import RowIssue, TaskContext
from training.tasks.completion import Completion, CompletionRow
from training.tasks.support.causal import CausalExample

SHARED = Path(__file__).resolve().parents[4] / "shared/models"


@cache
def build_sentencepiece_tokenizer() -> Any:
    """Build a tokenizer like Llama 2's.

    It prepends a space to every text, falls back to bytes, and adds BOS and EOS.
    """
    pieces = ["<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", *(chr(code) for code in range(33, 127))]
    pieces += ["▁a", "ab", "▁ab"]
    vocabulary = {piece: index for index, piece in enumerate(pieces)}
    merges = [("▁", "a"), ("a", "b"), ("▁", "ab")]
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, byte_fallback=True))
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>")


@cache
def load_stories_tokenizer() -> Any:
    if not (SHARED / "stories260k").exists():
        pytest.skip("the model is missing")
    return AutoTokenizer.from_pretrained(SHARED / "stories260k")


@cache
def load_gpt2_tokenizer() -> Any:
    files = [SHARED / "gpt2_tokenizer" / name for name in ("gpt2_vocab.json", "gpt2_merges.txt")]
    if not files[0].exists():
        pytest.skip("the tokenizer is missing")
    backend = Tokenizer(models.BPE.from_file(*map(str, files)))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|endoftext|>")


TOKENIZERS = {
    "bytes": build_byte_tokenizer,
    "sentencepiece": build_sentencepiece_tokenizer,
    "stories": load_stories_tokenizer,
    "gpt2": load_gpt2_tokenizer,
}
BOS_IDS = {"bytes": [], "sentencepiece": [0], "stories": [1], "gpt2": []}


def encode(tokenizer: Any, limit: int = 10_000, task: Completion | None = None, **row: Any) -> CausalExample | RowIssue:
    parsed = CompletionRow.model_validate(row)
    task = task or Completion()
    assert not list(task.check_row(parsed))
    [example] = task.encode([parsed], tokenizer, limit)
    return example


def encode_valid_row(tokenizer: Any, **row: Any) -> CausalExample:
    example = encode(tokenizer, **row)
    assert isinstance(example, CausalExample), example
    return example


@pytest.mark.parametrize("name", TOKENIZERS)
@pytest.mark.parametrize("prompt", ["ab", "Say ab:\n\n", "a "])
@pytest.mark.parametrize("completion", ["ab", " ab", "\n\nab", "é", "\tab  b "])
def test_the_completion_is_learned_after_the_serving_prompt(name: str, prompt: str, completion: str) -> None:
    tokenizer = TOKENIZERS[name]()
    example = encode_valid_row(tokenizer, prompt=prompt, completion=completion)
    prompt_ids = Completion().encode_prompt(prompt, tokenizer)
    assert prompt_ids[: len(BOS_IDS[name])] == BOS_IDS[name]
    assert prompt_ids == BOS_IDS[name] + tokenizer(prompt, add_special_tokens=False)["input_ids"]
    assert list(example.ids[: len(prompt_ids)]) == prompt_ids
    assert list(example.weights) == [0.0] * len(prompt_ids) + [1.0] * (len(example.ids) - len(prompt_ids))
    assert example.ids[-1] == tokenizer.eos_token_id
    assert Completion().count_targets(example) == len(example.ids) - len(prompt_ids)
    # No space is inserted between the two, and none is lost.
    assert tokenizer.decode(list(example.ids), skip_special_tokens=True) == prompt + completion


@pytest.mark.parametrize("name", TOKENIZERS)
def test_a_complete_text_is_a_target(name: str) -> None:
    tokenizer = TOKENIZERS[name]()
    for row in ({"text": "ab b\nab"}, {"prompt": "", "completion": "ab b\nab"}):
        example = encode_valid_row(tokenizer, **row)
        bare = tokenizer("ab b\nab", add_special_tokens=False)["input_ids"]
        assert list(example.ids) == [*BOS_IDS[name], *bare, tokenizer.eos_token_id]
        assert list(example.weights) == [0.0] + [1.0] * (len(example.ids) - 1)
    assert Completion().encode_prompt("", tokenizer) == BOS_IDS[name]


@pytest.mark.parametrize("name", TOKENIZERS)
def test_a_control_tokens_name_is_text(name: str) -> None:
    tokenizer = TOKENIZERS[name]()
    hostile = f"b{tokenizer.eos_token}ab"
    for row in ({"text": hostile}, {"prompt": hostile, "completion": hostile}):
        example = encode_valid_row(tokenizer, **row)
        assert list(example.ids).count(tokenizer.eos_token_id) == 1
        assert hostile in tokenizer.decode(list(example.ids))
    assert tokenizer.eos_token_id not in Completion().encode_prompt(hostile, tokenizer)


def test_single_and_batched_encodings_are_equal() -> None:
    tokenizer = build_sentencepiece_tokenizer()
    rows: list[dict[str, Any]] = [
        {"text": "ab"},
        {"prompt": "ab", "completion": " b"},
        {"prompt": "", "completion": "b"},
        {"prompt": "abab", "completion": "ab", "weight": 2.5},
    ]
    together = Completion().encode([CompletionRow.model_validate(row) for row in rows], tokenizer, 100)
    assert together == [encode(tokenizer, **row) for row in rows]
    last = together[-1]
    assert isinstance(last, CausalExample)
    assert Completion().sum_weights(last, TaskContext(tokenizer)) == 2.5 * 2


def test_train_on_inputs_learns_the_prompt_too() -> None:
    tokenizer = build_sentencepiece_tokenizer()
    row = CompletionRow(prompt="ab b", completion="ab", weight=2)
    [example] = Completion().with_options(True).encode([row], tokenizer, 100)
    assert isinstance(example, CausalExample)
    assert list(example.weights) == [0.0] + [2.0] * (len(example.ids) - 1)


def encode_parts(tokenizer: Any, limit: int, **row: Any) -> list[CausalExample]:
    [parts] = Completion().encode([CompletionRow.model_validate(row)], tokenizer, limit)
    assert isinstance(parts, list)
    return parts


def list_targets(examples: list[CausalExample]) -> list[int]:
    return [token for example in examples for token, weight in zip(example.ids, example.weights, strict=True) if weight]


@pytest.mark.parametrize("name", TOKENIZERS)
@pytest.mark.parametrize("limit", [8, 9, 30])
@pytest.mark.parametrize("row", [{"text": "ab b " * 30}, {"prompt": "ab", "completion": " b ab" * 30}])
def test_a_long_row_is_split_and_each_target_is_trained_once(name: str, limit: int, row: dict[str, str]) -> None:
    tokenizer = TOKENIZERS[name]()
    whole, parts = encode_valid_row(tokenizer, **row), encode_parts(tokenizer, limit, **row)
    assert list_targets(parts) == list_targets([whole])
    assert parts[0].ids == whole.ids[:limit]
    assert [part.continues for part in parts] == [False] + [True] * (len(parts) - 1)
    assert not any(part.truncated for part in parts)
    assert all(len(part.ids) == part.size <= limit for part in parts)
    prefix = BOS_IDS[name]
    for previous, part in pairwise(parts):
        # The start token and the token before the targets are context.
        assert list(part.ids[: len(prefix) + 1]) == [*prefix, previous.ids[-1]]
        assert list(part.weights[: len(prefix) + 1]) == [0.0] * (len(prefix) + 1)
        assert all(part.weights[len(prefix) + 1 :])


def test_a_row_that_fits_is_not_split() -> None:
    tokenizer = build_byte_tokenizer()
    assert encode(tokenizer, text="a" * 29, limit=30) == encode(tokenizer, text="a" * 29)
    assert len(encode_parts(tokenizer, 30, text="a" * 30)) == 2


def test_the_prompt_must_leave_room_for_a_target() -> None:
    tokenizer = build_byte_tokenizer()
    assert len(encode_parts(tokenizer, 30, prompt="a" * 29, completion="b")) == 2
    issue = encode(tokenizer, prompt="a" * 30, completion="b", limit=30)
    assert isinstance(issue, RowIssue)
    assert (issue.code, issue.field) == ("too_long", "completion")


def test_without_an_end_token_none_is_a_target() -> None:
    tokenizer = build_byte_tokenizer()
    with_end = encode_valid_row(tokenizer, text="ab")
    tokenizer.eos_token = None
    assert encode_valid_row(tokenizer, text="ab").ids == with_end.ids[:-1]


@pytest.mark.parametrize(
    ("row", "expected_errors"),
    [
        ({"prompt": "a", "completion": "b", "source": "ignored"}, []),
        ({"prompt": "", "completion": "b"}, []),
        ({"text": "a", "prompt": None}, []),
        ({}, [("missing_field", "prompt"), ("missing_field", "completion")]),
        ({"prompt": "a"}, [("missing_field", "completion")]),
        ({"completion": "a"}, [("missing_field", "prompt")]),
        ({"text": "a", "completion": "b"}, [("wrong_value", "completion")]),
        ({"text": " \n"}, [("empty_content", "text")]),
        ({"prompt": "a", "completion": ""}, [("empty_content", "completion")]),
        ({"text": 3}, [("wrong_type", "text")]),
        ({"text": "a", "weight": 0}, [("wrong_value", "weight")]),
        ({"text": "a", "weight": 1001}, [("wrong_value", "weight")]),
    ],
)
def test_rows_that_cannot_be_learned(tmp_path: Path, row: Any, expected_errors: Any) -> None:
    (tmp_path / "data").write_text(json.dumps(row))
    data = DatasetReader(RowEncoder(Completion(), build_byte_tokenizer(None), {}, 1000), ignore_progress).read(
        tmp_path / "data", "training_file"
    )
    assert [(error.code, error.field) for error in data.errors] == expected_errors


def test_csv(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("question,completion,weight\nWhy?, So.,2.5\nHow?, So.,\n")
    reader = DatasetReader(
        RowEncoder(Completion(), build_byte_tokenizer(None), {"prompt": "question"}, 1000), ignore_progress
    )
    data = reader.read(tmp_path / "data", "training_file")
    assert not data.errors
    assert [max(example.weights) for example in data.examples] == [2.5, 1.0]


ROWS = [{"prompt": f"{number} is", "completion": " odd" if number % 2 else " even"} for number in range(10)]
ROWS += [{"text": "Numbers are odd or even."}]


@pytest.mark.parametrize("update", [LORA, FULL, {"type": "layers", "last": 1}], ids=["lora", "full", "layers"])
def test_a_result_has_the_loss_of_its_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, update: dict[str, Any]
) -> None:
    """Trains a base without a chat template and reproduces the trainer's last metrics."""
    task = Completion()
    monkeypatch.setitem(TASKS, task.name, task)
    monkeypatch.setitem(run_folders.TASK_ROWS, task.name, ROWS)
    base = create_tiny_chat_base(tmp_path / "base", template=None)  # type: ignore[arg-type]
    hyper = {"n_epochs": 8, "batch_size": 4, "learning_rate": 0.01}
    lines = run_training(
        create_run_folder(tmp_path / "run", base, task.name, update, hyperparameters=hyper, validation=ROWS)
    )
    steps = lines.of_type(Metrics)
    assert steps[-1].valid_loss < 0.7 * steps[0].train_loss
    served = serving.load(base, tmp_path / "run/result", task.name)
    examples = [encode(served.context.processor, **row) for row in ROWS]
    assert all(isinstance(example, CausalExample) for example in examples)
    with torch.inference_mode():
        loss = task.compute_loss(served.model, task.collate(examples, served.context), served.context)  # type: ignore[arg-type]
    count = sum(task.count_targets(example) for example in examples)  # type: ignore[arg-type]
    assert loss.total.item() / count == pytest.approx(lines.of_type(Result)[0].metrics["valid_loss"], rel=1e-4)
    assert task.stop_tokens(served.model, served.context.processor) == {served.context.processor.eos_token_id}

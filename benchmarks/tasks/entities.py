"""Rare and new entities in social media posts: the published splits of WNUT-17.

No entity of the test split occurs in the training split, so a dictionary of training entities finds
nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from benchmarks.tasks.benchmark import DATASETS, DataSplits, Metrics, Row, TaskBenchmark, TrainedModel
from benchmarks.tasks.model_requests import predict


class Span(NamedTuple):
    """Entity with character offsets into the sentence's tokens joined by spaces."""

    kind: str
    start: int
    end: int


def read_sentences(name: str) -> list[Row]:
    """Read rows of tokens and BIO tags."""
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
    """Yield the entities that the tags encode."""
    kind, start, end, offset = "", 0, 0, 0
    for token, tag in [*zip(row["tokens"], row["tags"], strict=True), ("", "O")]:
        if kind and tag != f"I-{kind}":
            yield Span(kind, start, end)
            kind = ""
        if not kind and tag != "O":
            kind, start = tag[2:], offset
        end, offset = offset + len(token), offset + len(token) + 1


def _load_data() -> DataSplits:
    return DataSplits(
        read_sentences("wnut17train.conll"),
        read_sentences("emerging.test.annotated"),
        "WNUT-17, published train and test splits",
    )


def _evaluate(trained: TrainedModel, data: DataSplits) -> Metrics:
    predictions = predict(trained.client, trained.model, [{"tokens": row["tokens"]} for row in data.held_out])
    spans = [
        [Span(entity["label"], entity["start"], entity["end"]) for entity in prediction["entities"]]
        for prediction in predictions
    ]
    return _compute_scores(data.held_out, spans)


def _evaluate_baselines(trained: TrainedModel, data: DataSplits) -> dict[str, Metrics]:
    return {
        "entities of the training part, looked up": _compute_scores(data.held_out, _look_up_entities(data)),
        "words with capitals are a person": _compute_scores(data.held_out, map(_find_capitalized_spans, data.held_out)),
    }


def _find_capitalized_spans(row: Row) -> Iterator[Span]:
    """Return each run of capitalized words, except a lone first word of the sentence."""
    tags, tag = [], "O"
    for word in row["tokens"]:
        tag = "O" if not word[0].isupper() else "I-person" if tag != "O" else "B-person"
        tags.append(tag)
    return (span for span in extract_spans({**row, "tags": tags}) if span.start or " " in _join_tokens(row)[: span.end])


def _join_tokens(row: Row) -> str:
    return " ".join(row["tokens"])


def _look_up_entities(data: DataSplits) -> Iterator[list[Span]]:
    """Yield, per row, the longest training entity that starts at each word, with its most common
    kind.
    """
    kinds: dict[tuple[str, ...], Counter[str]] = {}
    for row in data.training:
        text = _join_tokens(row)
        for span in extract_spans(row):
            kinds.setdefault(tuple(text[span.start : span.end].split(" ")), Counter())[span.kind] += 1
    longest = max(map(len, kinds), default=0)
    for row in data.held_out:
        words, first, spans = row["tokens"], 0, []
        starts = [sum(len(word) + 1 for word in words[:index]) for index in range(len(words) + 1)]
        while first < len(words):
            ends = range(min(first + longest, len(words)), first, -1)
            end = next((end for end in ends if tuple(words[first:end]) in kinds), None)
            if end is not None:
                kind = kinds[tuple(words[first:end])].most_common(1)[0][0]
                spans.append(Span(kind, starts[first], starts[end] - 1))
            first = end or first + 1
        yield spans


def _compute_scores(rows: Sequence[Row], predicted: Iterable[Iterable[Span]]) -> Metrics:
    """Compute entity precision, recall and F1. A match needs the same kind, start and end."""
    expected = {(index, span) for index, row in enumerate(rows) for span in extract_spans(row)}
    found = {(index, span) for index, spans in enumerate(predicted) for span in spans}
    hits = len(expected & found)
    return {
        "entity_precision": hits / max(1, len(found)),
        "entity_recall": hits / max(1, len(expected)),
        "entity_f1": 2 * hits / max(1, len(found) + len(expected)),
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

"""Extractive question answering, built from the entities of WNUT-17 for lack of a question data
set.

"Which person is mentioned?" is the question for every sentence with exactly one person. The other
kinds work the same way.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from benchmarks.tasks.benchmark import DataSplits, Metrics, Row, TaskBenchmark, TrainedModel
from benchmarks.tasks.entities import extract_spans, read_sentences
from benchmarks.tasks.model_requests import predict
from training.tasks.support import squad

ENTITY_NOUNS = {
    "person": "person",
    "location": "place",
    "corporation": "company",
    "product": "product",
    "creative-work": "book, film or song",
    "group": "group",
}


def _load_data() -> DataSplits:
    training, held_out = (
        [question for row in read_sentences(name) for question in _build_questions(row)]
        for name in ("wnut17train.conll", "emerging.test.annotated")
    )
    return DataSplits(training, held_out, "built from the entities of WNUT-17's published train and test splits")


def _build_questions(row: Row) -> Iterator[Row]:
    text, spans = " ".join(row["tokens"]), list(extract_spans(row))
    counts = Counter(span.kind for span in spans)
    for span in spans:
        if counts[span.kind] == 1:
            answer = {"text": text[span.start : span.end], "start": span.start}
            yield {"question": f"Which {ENTITY_NOUNS[span.kind]} is mentioned?", "context": text, "answers": [answer]}


def _evaluate(trained: TrainedModel, data: DataSplits) -> Metrics:
    inputs = [{"question": row["question"], "context": row["context"]} for row in data.held_out]
    return _compute_scores(data, [prediction["text"] for prediction in predict(trained.client, trained.model, inputs)])


def _evaluate_baselines(trained: TrainedModel, data: DataSplits) -> dict[str, Metrics]:
    contexts = [row["context"] for row in data.held_out]
    return {
        "the first word with a capital": _compute_scores(
            data, [_find_capitalized_word(context) for context in contexts]
        ),
        "the whole sentence": _compute_scores(data, contexts),
    }


def _find_capitalized_word(context: str) -> str:
    words = context.split(" ")
    return next((word for word in words if word[:1].isupper()), words[0])


def _compute_scores(data: DataSplits, predicted: list[str]) -> Metrics:
    return squad.compute_scores(predicted, [[answer["text"] for answer in row["answers"]] for row in data.held_out])


BENCHMARK = TaskBenchmark(
    title="questions about posts (from WNUT-17)",
    base="minilm-l6",
    task="question-answering",
    load_data=_load_data,
    evaluate=_evaluate,
    evaluate_baselines=_evaluate_baselines,
    primary_metric="f1",
)

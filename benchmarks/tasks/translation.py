"""English to Swedish translation from random weights: sentence pairs of Tatoeba."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from math import log, sqrt
from pathlib import Path
from random import Random

from sacrebleu import corpus_bleu, corpus_chrf

from benchmarks.bases import RegistryEntry, create_translation_base
from benchmarks.tasks.benchmark import DATASETS, SEED, DataSplits, Metrics, TaskBenchmark, TrainedModel
from benchmarks.tasks.model_requests import predict

HELD_OUT_ROWS = 500


def _load_data() -> DataSplits:
    """Load the first translation of each source."""
    text = (DATASETS / "tatoeba_eng_swe" / "swe.txt").read_text(encoding="utf-8")
    first: dict[str, str] = {}
    for line in text.splitlines():
        source, target = line.split("\t")[:2]
        first.setdefault(source, target)
    rows = [{"source": source, "target": target} for source, target in first.items()]
    Random(SEED).shuffle(rows)
    return DataSplits(
        rows[HELD_OUT_ROWS:], rows[:HELD_OUT_ROWS], f"the first translation of each of {len(rows)} distinct sources"
    )


def _evaluate(trained: TrainedModel, data: DataSplits) -> Metrics:
    predictions = predict(trained.client, trained.model, [{"source": row["source"]} for row in data.held_out])
    return _compute_scores(data, [prediction["text"] for prediction in predictions])


def _evaluate_baselines(trained: TrainedModel, data: DataSplits) -> dict[str, Metrics]:
    return {
        "translation of the likest training source": _compute_scores(data, list(_find_nearest_translations(data))),
        "the source itself": _compute_scores(data, [row["source"] for row in data.held_out]),
    }


def _find_nearest_translations(data: DataSplits) -> Iterator[str]:
    """Yield the translation of the most similar training source, by TF-IDF cosine similarity."""
    bags = [_count_words(row["source"]) for row in data.training]
    rows_by_word: dict[str, list[int]] = defaultdict(list)
    for number, bag in enumerate(bags):
        for word in bag:
            rows_by_word[word].append(number)
    idf = {word: log(len(bags) / len(rows)) + 1 for word, rows in rows_by_word.items()}
    norms = [sqrt(sum((count * idf[word]) ** 2 for word, count in bag.items())) for bag in bags]
    for row in data.held_out:
        scores: dict[int, float] = defaultdict(float)
        for word, count in _count_words(row["source"]).items():
            for number in rows_by_word.get(word, ()):
                scores[number] += count * bags[number][word] * idf[word] ** 2
        best = max(scores, key=lambda number: scores[number] / norms[number], default=0)
        yield data.training[best]["target"]


def _count_words(text: str) -> Counter[str]:
    return Counter("".join(letter if letter.isalnum() else " " for letter in text.lower()).split())


def _compute_scores(data: DataSplits, predicted: Sequence[str]) -> Metrics:
    references = [[row["target"] for row in data.held_out]]
    return {"bleu": corpus_bleu(predicted, references).score, "chrf": corpus_chrf(predicted, references).score}


def _create_base(directory: Path, data: DataSplits) -> RegistryEntry:
    return create_translation_base(directory, (text for row in data.training for text in row.values()))


BENCHMARK = TaskBenchmark(
    title="English into Swedish (Tatoeba)",
    base="small-bart",
    task="seq2seq",
    update={"type": "full"},
    load_data=_load_data,
    evaluate=_evaluate,
    evaluate_baselines=_evaluate_baselines,
    primary_metric="bleu",
    # The rules for `auto` choose learning rates for pretrained models.
    hyperparameters={"n_epochs": 10, "batch_size": 64, "learning_rate": 0.0015},
    create_base=_create_base,
)

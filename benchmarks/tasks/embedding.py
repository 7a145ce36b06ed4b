"""Sentence embeddings: the pairs of STS-B with a human score of at least 4 of 5."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.tasks.benchmark import DataSplits, Metrics, Row, TaskBenchmark, TrainedModel
from benchmarks.tasks.model_requests import compute_cosines, dot, embed, spearman
from benchmarks.tasks.regression import read_pairs

MIN_SIMILAR_SCORE = 4.0


def _load_data() -> DataSplits:
    training = [
        {"anchor": left, "positive": right} for left, right, score in read_pairs("train") if score >= MIN_SIMILAR_SCORE
    ]
    held_out = [{"anchor": left, "positive": right, "score": score} for left, right, score in read_pairs("test")]
    note = f"STS-B: training pairs with a score of at least {MIN_SIMILAR_SCORE:g}; all test pairs held out"
    return DataSplits(training, held_out, note)


def _evaluate(trained: TrainedModel, data: DataSplits) -> Metrics:
    return _evaluate_model(trained, trained.model, data.held_out)


def _evaluate_baselines(trained: TrainedModel, data: DataSplits) -> dict[str, Metrics]:
    return {"untuned minilm-l6": _evaluate_model(trained, BENCHMARK.base, data.held_out)}


def _evaluate_model(trained: TrainedModel, model: str, rows: Sequence[Row]) -> Metrics:
    cosines = compute_cosines(trained.client, model, [(row["anchor"], row["positive"]) for row in rows])
    return {
        "spearman": spearman([row["score"] for row in rows], cosines),
        "recall_at_1": _compute_recall(trained, model, [row for row in rows if row["score"] >= MIN_SIMILAR_SCORE]),
    }


def _compute_recall(trained: TrainedModel, model: str, similar_rows: Sequence[Row]) -> float:
    """Return the share of anchors whose nearest vector, among the positives of similar pairs, is
    their own positive.
    """
    anchors, positives = (
        embed(trained.client, model, [row[side] for row in similar_rows]) for side in ("anchor", "positive")
    )
    nearest = [_find_nearest(anchor, positives) for anchor in anchors]
    hits: int = sum(
        similar_rows[index]["positive"] == row["positive"] for index, row in zip(nearest, similar_rows, strict=True)
    )
    return hits / len(similar_rows)


def _find_nearest(vector: Sequence[float], candidates: Sequence[Sequence[float]]) -> int:
    scores = [dot(vector, candidate) for candidate in candidates]
    return scores.index(max(scores))


BENCHMARK = TaskBenchmark(
    title="sentences that mean the same (STS-B)",
    base="minilm-l6",
    task="embedding",
    load_data=_load_data,
    evaluate=_evaluate,
    evaluate_baselines=_evaluate_baselines,
    primary_metric="spearman",
)

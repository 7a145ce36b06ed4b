"""Sentences that mean the same lie together: the pairs of STS-B that people scored 4 or more of 5."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.tasks.benchmark import DataSplits, Metrics, Row, TaskBenchmark, TrainedModel
from benchmarks.tasks.model_requests import compute_cosines, dot, embed, spearman
from benchmarks.tasks.regression import read_pairs

MIN_SIMILAR_SCORE = 4.0


def _load_data() -> DataSplits:
    training = [
        {"anchor": one, "positive": other} for one, other, score in read_pairs("train") if score >= MIN_SIMILAR_SCORE
    ]
    held_out = [{"anchor": one, "positive": other, "score": score} for one, other, score in read_pairs("test")]
    note = f"the training pairs of STS-B with a score of {MIN_SIMILAR_SCORE:g} or more; all pairs of its test part held out"
    return DataSplits(training, held_out, note)


def _evaluate(trained: TrainedModel, data: DataSplits) -> Metrics:
    return _evaluate_model(trained, trained.model, data.held_out)


def _evaluate_baselines(trained: TrainedModel, data: DataSplits) -> dict[str, Metrics]:
    return {"untuned minilm-l6": _evaluate_model(trained, BENCHMARK.base, data.held_out)}


def _evaluate_model(trained: TrainedModel, model: str, rows: Sequence[Row]) -> Metrics:
    found = compute_cosines(trained.client, model, [(row["anchor"], row["positive"]) for row in rows])
    return {
        "spearman": spearman([row["score"] for row in rows], found),
        "recall_at_1": _compute_recall(trained, model, [row for row in rows if row["score"] >= MIN_SIMILAR_SCORE]),
    }


def _compute_recall(trained: TrainedModel, model: str, similar_rows: Sequence[Row]) -> float:
    """Share of the anchors of like pairs whose positive is the nearest of all of these pairs' positives."""
    anchors, positives = (
        embed(trained.client, model, [row[side] for row in similar_rows]) for side in ("anchor", "positive")
    )
    nearest = [_find_nearest(anchor, positives) for anchor in anchors]
    hits: int = sum(
        similar_rows[at]["positive"] == row["positive"] for at, row in zip(nearest, similar_rows, strict=True)
    )
    return hits / len(similar_rows)


def _find_nearest(vector: Sequence[float], candidates: Sequence[Sequence[float]]) -> int:
    scores = [dot(vector, other) for other in candidates]
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

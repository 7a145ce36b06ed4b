"""Similarity of two sentences, 0 to 5: the published splits of STS-B."""

from __future__ import annotations

import csv
from statistics import correlation

from benchmarks.tasks.benchmark import DATASETS, DataSplits, Metrics, TaskBenchmark, TrainedModel
from benchmarks.tasks.model_requests import compute_cosines, predict, spearman


def read_pairs(split: str) -> list[tuple[str, str, float]]:
    with (DATASETS / "stsb" / f"stsb-en-{split}.csv").open(newline="", encoding="utf-8") as file:
        return [(left, right, float(score)) for left, right, score in csv.reader(file)]


def _load_data() -> DataSplits:
    training, held_out = (
        [{"text": left, "text_pair": right, "target": score} for left, right, score in read_pairs(split)]
        for split in ("train", "test")
    )
    return DataSplits(training, held_out, "STS-B, published train and test splits")


def _evaluate(trained: TrainedModel, data: DataSplits) -> Metrics:
    inputs = [{"text": row["text"], "text_pair": row["text_pair"]} for row in data.held_out]
    return _compute_scores(data, [prediction["value"] for prediction in predict(trained.client, trained.model, inputs)])


def _evaluate_baselines(trained: TrainedModel, data: DataSplits) -> dict[str, Metrics]:
    untuned = compute_cosines(
        trained.client, BENCHMARK.base, [(row["text"], row["text_pair"]) for row in data.held_out]
    )
    # The correlation of a constant is undefined; it counts as 0.
    return {
        "cosine of untuned minilm-l6 embeddings": _compute_scores(data, untuned),
        "the mean": {"pearson": 0.0, "spearman": 0.0},
    }


def _compute_scores(data: DataSplits, predicted: list[float]) -> Metrics:
    truth = [row["target"] for row in data.held_out]
    return {"pearson": correlation(truth, predicted), "spearman": spearman(truth, predicted)}


BENCHMARK = TaskBenchmark(
    title="how alike two sentences are (STS-B)",
    base="minilm-l6",
    task="text-regression",
    load_data=_load_data,
    evaluate=_evaluate,
    evaluate_baselines=_evaluate_baselines,
    primary_metric="pearson",
    hyperparameters={"n_epochs": 3},
)

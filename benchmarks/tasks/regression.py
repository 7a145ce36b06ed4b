"""How alike two sentences are, 0 to 5: the published parts of STS-B."""

from __future__ import annotations

import csv
from statistics import correlation

from benchmarks.tasks.ask import cosines, predictions, spearman
from benchmarks.tasks.run import SETS, Data, Figures, Run, Trained


def pairs(part: str) -> list[tuple[str, str, float]]:
    with (SETS / "stsb" / f"stsb-en-{part}.csv").open(newline="", encoding="utf-8") as file:
        return [(one, other, float(score)) for one, other, score in csv.reader(file)]


def _rows() -> Data:
    training, held_out = (
        [{"text": one, "text_pair": other, "target": score} for one, other, score in pairs(part)]
        for part in ("train", "test")
    )
    return Data(training, held_out, "STS-B, published train and test parts")


def _ask(trained: Trained, data: Data) -> Figures:
    asked = [{"text": row["text"], "text_pair": row["text_pair"]} for row in data.held_out]
    return _figures(data, [answer["value"] for answer in predictions(trained.client, trained.model, asked)])


def _baselines(trained: Trained, data: Data) -> dict[str, Figures]:
    untuned = cosines(trained.client, RUN.base, [(row["text"], row["text_pair"]) for row in data.held_out])
    # Any constant: its correlation with anything is taken as 0.
    return {
        "cosine of untuned minilm-l6 embeddings": _figures(data, untuned),
        "the mean": {"pearson": 0.0, "spearman": 0.0},
    }


def _figures(data: Data, found: list[float]) -> Figures:
    truth = [row["target"] for row in data.held_out]
    return {"pearson": correlation(truth, found), "spearman": spearman(truth, found)}


RUN = Run(
    title="how alike two sentences are (STS-B)",
    base="minilm-l6",
    task="text-regression",
    rows=_rows,
    ask=_ask,
    baselines=_baselines,
    decisive="pearson",
    hyperparameters={"n_epochs": 3},
)

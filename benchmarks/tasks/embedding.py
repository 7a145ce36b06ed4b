"""Sentences that mean the same lie together: the pairs of STS-B that people scored 4 or more of 5."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.tasks.ask import cosines, dot, embeddings, spearman
from benchmarks.tasks.regression import pairs
from benchmarks.tasks.run import Data, Figures, Row, Run, Trained

ALIKE = 4.0


def _rows() -> Data:
    training = [{"anchor": one, "positive": other} for one, other, score in pairs("train") if score >= ALIKE]
    held_out = [{"anchor": one, "positive": other, "score": score} for one, other, score in pairs("test")]
    note = f"the training pairs of STS-B with a score of {ALIKE:g} or more; all pairs of its test part held out"
    return Data(training, held_out, note)


def _ask(trained: Trained, data: Data) -> Figures:
    return _figures(trained, trained.model, data.held_out)


def _baselines(trained: Trained, data: Data) -> dict[str, Figures]:
    return {"untuned minilm-l6": _figures(trained, RUN.base, data.held_out)}


def _figures(trained: Trained, model: str, rows: Sequence[Row]) -> Figures:
    found = cosines(trained.client, model, [(row["anchor"], row["positive"]) for row in rows])
    return {
        "spearman": spearman([row["score"] for row in rows], found),
        "recall_at_1": _recall(trained, model, [row for row in rows if row["score"] >= ALIKE]),
    }


def _recall(trained: Trained, model: str, alike: Sequence[Row]) -> float:
    """Share of the anchors of like pairs whose positive is the nearest of all of these pairs' positives."""
    anchors, positives = (
        embeddings(trained.client, model, [row[side] for row in alike]) for side in ("anchor", "positive")
    )
    nearest = [_nearest(anchor, positives) for anchor in anchors]
    hits: int = sum(alike[at]["positive"] == row["positive"] for at, row in zip(nearest, alike, strict=True))
    return hits / len(alike)


def _nearest(vector: Sequence[float], others: Sequence[Sequence[float]]) -> int:
    scores = [dot(vector, other) for other in others]
    return scores.index(max(scores))


RUN = Run(
    title="sentences that mean the same (STS-B)",
    base="minilm-l6",
    task="embedding",
    rows=_rows,
    ask=_ask,
    baselines=_baselines,
    decisive="spearman",
)

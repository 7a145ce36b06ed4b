"""Asking served models many things, and the figures that several runs share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import correlation
from typing import Any

from openai import OpenAI

from benchmarks.tasks.benchmark import Row

REQUEST_BATCH_SIZE = 128


def predict(client: OpenAI, model: str, inputs: Sequence[Row]) -> list[dict[str, Any]]:
    """An answer for each input, in order."""
    answers: list[dict[str, Any]] = []
    for part in _split_batches(inputs):
        data: Any = client.post("/predictions", body={"model": model, "inputs": list(part), "top_k": 1}, cast_to=object)
        answers += data["data"]
    return answers


def embed(client: OpenAI, model: str, texts: Sequence[str]) -> list[list[float]]:
    """A vector of length 1 for each text, in order."""
    vectors: list[list[float]] = []
    for part in _split_batches(texts):
        made = client.embeddings.create(model=model, input=list(part))
        vectors += [item.embedding for item in made.data]
    return vectors


def compute_cosines(client: OpenAI, model: str, pairs: Sequence[tuple[str, str]]) -> list[float]:
    """Of the embeddings of each pair."""
    left, right = (embed(client, model, side) for side in zip(*pairs, strict=True))
    return [dot(one, other) for one, other in zip(left, right, strict=True)]


def dot(left: Sequence[float], right: Sequence[float]) -> float:
    return sum(one * other for one, other in zip(left, right, strict=True))


def spearman(left: Sequence[float], right: Sequence[float]) -> float:
    """Correlation of the ranks."""
    return correlation(_compute_ranks(left), _compute_ranks(right))


def _compute_ranks(values: Sequence[float]) -> list[float]:
    """Equal values share the mean of their ranks."""
    places: dict[float, list[int]] = {}
    for place, value in enumerate(sorted(values)):
        places.setdefault(value, []).append(place)
    return [sum(places[value]) / len(places[value]) for value in values]


def _split_batches(items: Sequence[Any]) -> Iterator[Sequence[Any]]:
    for start in range(0, len(items), REQUEST_BATCH_SIZE):
        yield items[start : start + REQUEST_BATCH_SIZE]

"""Asking served models many things, and the figures that several runs share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import correlation
from typing import Any

from openai import OpenAI

from benchmarks.tasks.run import Row

ASKED_AT_ONCE = 128


def predictions(client: OpenAI, model: str, inputs: Sequence[Row]) -> list[dict[str, Any]]:
    """An answer for each input, in order."""
    answers: list[dict[str, Any]] = []
    for part in _parts(inputs):
        data: Any = client.post("/predictions", body={"model": model, "inputs": list(part), "top_k": 1}, cast_to=object)
        answers += data["data"]
    return answers


def embeddings(client: OpenAI, model: str, texts: Sequence[str]) -> list[list[float]]:
    """A vector of length 1 for each text, in order."""
    vectors: list[list[float]] = []
    for part in _parts(texts):
        made = client.embeddings.create(model=model, input=list(part))
        vectors += [item.embedding for item in made.data]
    return vectors


def cosines(client: OpenAI, model: str, pairs: Sequence[tuple[str, str]]) -> list[float]:
    """Of the embeddings of each pair."""
    left, right = (embeddings(client, model, side) for side in zip(*pairs, strict=True))
    return [dot(one, other) for one, other in zip(left, right, strict=True)]


def dot(left: Sequence[float], right: Sequence[float]) -> float:
    return sum(one * other for one, other in zip(left, right, strict=True))


def spearman(left: Sequence[float], right: Sequence[float]) -> float:
    """Correlation of the ranks."""
    return correlation(_ranks(left), _ranks(right))


def _ranks(values: Sequence[float]) -> list[float]:
    """Equal values share the mean of their ranks."""
    places: dict[float, list[int]] = {}
    for place, value in enumerate(sorted(values)):
        places.setdefault(value, []).append(place)
    return [sum(places[value]) / len(places[value]) for value in values]


def _parts(items: Sequence[Any]) -> Iterator[Sequence[Any]]:
    for start in range(0, len(items), ASKED_AT_ONCE):
        yield items[start : start + ASKED_AT_ONCE]

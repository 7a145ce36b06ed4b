"""Batched requests to served models, and metrics shared by several benchmarks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import correlation
from typing import Any

from openai import OpenAI

from benchmarks.tasks.benchmark import Row

REQUEST_BATCH_SIZE = 128


def predict(client: OpenAI, model: str, inputs: Sequence[Row]) -> list[dict[str, Any]]:
    """Return one prediction per input, in order."""
    predictions: list[dict[str, Any]] = []
    for batch in _split_batches(inputs):
        data: Any = client.post(
            "/predictions", body={"model": model, "inputs": list(batch), "top_k": 1}, cast_to=object
        )
        predictions += data["data"]
    return predictions


def embed(client: OpenAI, model: str, texts: Sequence[str]) -> list[list[float]]:
    """Return one vector of length 1 per text, in order."""
    vectors: list[list[float]] = []
    for batch in _split_batches(texts):
        response = client.embeddings.create(model=model, input=list(batch))
        vectors += [item.embedding for item in response.data]
    return vectors


def compute_cosines(client: OpenAI, model: str, pairs: Sequence[tuple[str, str]]) -> list[float]:
    """Return the cosine similarity of the embeddings of each pair."""
    left, right = (embed(client, model, side) for side in zip(*pairs, strict=True))
    return [dot(*vectors) for vectors in zip(left, right, strict=True)]


def dot(left: Sequence[float], right: Sequence[float]) -> float:
    return sum(x * y for x, y in zip(left, right, strict=True))


def spearman(left: Sequence[float], right: Sequence[float]) -> float:
    """Compute the rank correlation of two sequences."""
    return correlation(_compute_ranks(left), _compute_ranks(right))


def _compute_ranks(values: Sequence[float]) -> list[float]:
    """Rank the values. Equal values share the mean of their ranks."""
    ranks: dict[float, list[int]] = {}
    for rank, value in enumerate(sorted(values)):
        ranks.setdefault(value, []).append(rank)
    return [sum(ranks[value]) / len(ranks[value]) for value in values]


def _split_batches(items: Sequence[Any]) -> Iterator[Sequence[Any]]:
    for start in range(0, len(items), REQUEST_BATCH_SIZE):
        yield items[start : start + REQUEST_BATCH_SIZE]

"""Encoded pairs of answers, and their log-probabilities before training."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from training.tasks.base import Example
from training.tasks.examples import Column, LazySequence, read_column
from training.tasks.support.causal import CausalExample


@dataclass(frozen=True, slots=True)
class PreferenceExample(Example):
    """An encoded pair of answers."""

    chosen: CausalExample
    rejected: CausalExample
    reference_logprobs: tuple[array[float], array[float]] | None = None
    """Log-probabilities of the targets of ``chosen`` and ``rejected`` before training, float32.

    They are stored per token, because the difference of two large sums would lose precision.
    """


class ReferencedExamples(LazySequence):
    """Examples with their reference log-probabilities, which stay in memory."""

    def __init__(
        self, examples: Sequence[PreferenceExample], references: Mapping[int, tuple[array[float], array[float]]]
    ) -> None:
        self._examples = examples
        self._references = references

    def __len__(self) -> int:
        return len(self._examples)

    def build(self, row: int) -> PreferenceExample:
        return replace(self._examples[row], reference_logprobs=self._references[row])

    def read_column(self, name: Column) -> array[int]:
        return read_column(self._examples, name)

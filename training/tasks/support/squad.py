"""Exact match and F1 of answers, as in SQuAD (Rajpurkar et al. 2016, arXiv:1606.05250, 6.1)."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence

METRICS = {
    "exact_match": "share of answers equal to an expected answer, ignoring case, punctuation and articles",
    "f1": "mean F1 score of an answer's words against the most similar expected answer",
}
_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLES = re.compile(r"\b(a|an|the)\b")


def normalize_words(text: str) -> list[str]:
    """Return lowercase words without punctuation and articles."""
    return _ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split()


def exact_match(predicted: str, expected: str) -> float:
    return float(normalize_words(predicted) == normalize_words(expected))


def f1_score(predicted: str, expected: str) -> float:
    """Return F1 over the multisets of words.

    An answer without words is correct if none is expected (Rajpurkar et al. 2018,
    arXiv:1806.03822).
    """
    words, expected_words = normalize_words(predicted), normalize_words(expected)
    if not words or not expected_words:
        return float(words == expected_words)
    return 2 * (Counter(words) & Counter(expected_words)).total() / (len(words) + len(expected_words))


def compute_scores(predicted: Sequence[str], expected: Sequence[Sequence[str]]) -> dict[str, float]:
    """Return mean scores over the questions.

    The most similar expected answer counts. No expected answer means the empty answer.
    """
    rows = [(text, answers or [""]) for text, answers in zip(predicted, expected, strict=True)]
    return {
        "exact_match": sum(max(exact_match(text, answer) for answer in answers) for text, answers in rows) / len(rows),
        "f1": sum(max(f1_score(text, answer) for answer in answers) for text, answers in rows) / len(rows),
    }

"""How well an answer meets those expected, as SQuAD counts it (Rajpurkar et al. 2016, arXiv:1606.05250, 6.1)."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence

METRICS = {
    "exact_match": "share of the answers that are one of those expected, but for case, punctuation and articles",
    "f1": "mean of the F1 score of the answer's words against those of the likest answer expected",
}
_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLES = re.compile(r"\b(a|an|the)\b")


def normalize_words(text: str) -> list[str]:
    """In small letters, without punctuation and articles."""
    return _ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split()


def exact_match(predicted: str, expected: str) -> float:
    return float(normalize_words(predicted) == normalize_words(expected))


def f1_score(predicted: str, expected: str) -> float:
    """Of words counted as often as they stand. An answer without words is right where none is expected (Rajpurkar et
    al. 2018, arXiv:1806.03822)."""
    made, there = normalize_words(predicted), normalize_words(expected)
    if not made or not there:
        return float(made == there)
    return 2 * (Counter(made) & Counter(there)).total() / (len(made) + len(there))


def compute_scores(predicted: Sequence[str], expected: Sequence[Sequence[str]]) -> dict[str, float]:
    """Means over the questions; of several answers expected the likest counts, and none at all is the empty one."""
    rows = [(made, answers or [""]) for made, answers in zip(predicted, expected, strict=True)]
    return {
        "exact_match": sum(max(exact_match(made, answer) for answer in answers) for made, answers in rows) / len(rows),
        "f1": sum(max(f1_score(made, answer) for answer in answers) for made, answers in rows) / len(rows),
    }

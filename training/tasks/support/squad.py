"""How well an answer meets those expected, as SQuAD counts it (Rajpurkar et al. 2016, arXiv:1606.05250, 6.1)."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence

MEASURES = {
    "exact_match": "share of the answers that are one of those expected, but for case, punctuation and articles",
    "f1": "mean of the F1 score of the answer's words against those of the likest answer expected",
}
_MARKS = str.maketrans("", "", string.punctuation)
_ARTICLES = re.compile(r"\b(a|an|the)\b")


def words(text: str) -> list[str]:
    """In small letters, without punctuation and articles."""
    return _ARTICLES.sub(" ", text.lower().translate(_MARKS)).split()


def exact(found: str, expected: str) -> float:
    return float(words(found) == words(expected))


def f1(found: str, expected: str) -> float:
    """Of words counted as often as they stand. An answer without words is right where none is expected (Rajpurkar et
    al. 2018, arXiv:1806.03822)."""
    made, there = words(found), words(expected)
    if not made or not there:
        return float(made == there)
    return 2 * (Counter(made) & Counter(there)).total() / (len(made) + len(there))


def scores(found: Sequence[str], expected: Sequence[Sequence[str]]) -> dict[str, float]:
    """Means over the questions; of several answers expected the likest counts, and none at all is the empty one."""
    rows = [(made, answers or [""]) for made, answers in zip(found, expected, strict=True)]
    return {
        "exact_match": sum(max(exact(made, answer) for answer in answers) for made, answers in rows) / len(rows),
        "f1": sum(max(f1(made, answer) for answer in answers) for made, answers in rows) / len(rows),
    }

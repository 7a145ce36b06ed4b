"""Words of a text, their BIO tags, and the entities that the tags encode."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from training.errors import TrainingError
from training.tasks.base import RowIssue, TaskState

OUTSIDE = "O"
TAG_PATTERN = re.compile(r"O|[BI]-.+", re.DOTALL)
_WORD_PATTERN = re.compile(r"\w+|[^\w\s]")

METRICS = {
    "entity_precision": "share of predicted entities that match an entity of the row in label, first and last word",
    "entity_recall": "share of the rows' entities that are predicted",
    "entity_f1": "harmonic mean of precision and recall",
}


class Words(NamedTuple):
    """A text and the positions of its words."""

    text: str
    spans: list[tuple[int, int]]
    """Start and exclusive end of each word, in characters."""


class Entity(NamedTuple):
    """An entity and the words that it covers."""

    label: str
    first: int
    """Index of the first word."""
    end: int
    """Index after the last word."""


def join_tokens(tokens: Sequence[str]) -> Words:
    """Join tokens with spaces."""
    spans, at = [], 0
    for token in tokens:
        spans.append((at, at + len(token)))
        at += len(token) + 1
    return Words(" ".join(tokens), spans)


def split_words(text: str) -> Words:
    """Split a text into words: runs of letters and digits, and single punctuation marks."""
    return Words(text, [match.span() for match in _WORD_PATTERN.finditer(text)])


def align_words(spans: Sequence[tuple[int, int]], offsets: Sequence[tuple[int, int]]) -> Iterator[int | None]:
    """Yield the position of each word's first token, or None if it has none.

    Control tokens have the empty offset (0, 0).
    """
    position = 0
    for start, end in spans:
        while position < len(offsets) and offsets[position][1] <= start:
            position += 1
        yield position if position < len(offsets) and offsets[position][0] < end else None


def check_tags(tags: Sequence[str]) -> Iterator[RowIssue]:
    for index, tag in enumerate(tags):
        if not TAG_PATTERN.fullmatch(tag):
            message = f"'{tag[:80]}' is not a BIO tag; use O, or B- or I- with the kind of entity, e.g. B-person."
            yield RowIssue("wrong_value", f"tags[{index}]", message)


def count_tags(tags: Iterable[str]) -> TaskState:
    """Return ``{labels, counts}``: ``O``, and ``B-`` and ``I-`` of every kind.

    Raises ``TrainingError`` if the tags contain no entity or no ``O``.
    """
    counts = Counter(tags)
    kinds = {tag[2:] for tag in counts} - {""}
    if not kinds:
        raise TrainingError(
            "invalid_dataset", "No word has the tag of an entity; tag entities with B-… and I-….", "training_file"
        )
    if OUTSIDE not in counts:
        raise TrainingError(
            "invalid_dataset",
            f"Every word is part of an entity; use complete sentences and tag all other words with {OUTSIDE}.",
            "training_file",
        )
    labels = sorted({OUTSIDE} | {f"{mark}-{kind}" for mark in "BI" for kind in kinds})
    # A count of 1 keeps the weight of an unused tag finite; no word uses that weight.
    return {"labels": labels, "counts": [max(1, counts[label]) for label in labels]}


def extract_entities(tags: Sequence[str]) -> Iterator[Entity]:
    """Yield the entities that tags encode.

    An entity begins with ``B-``, or with an ``I-`` that does not follow its kind, and continues
    with ``I-`` of its kind.
    """
    first, kind = 0, ""
    for index, tag in enumerate([*tags, OUTSIDE]):
        if kind and tag != f"I-{kind}":
            yield Entity(kind, first, index)
            kind = ""
        if not kind and tag != OUTSIDE:
            first, kind = index, tag[2:]


def score_entities(truth: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]) -> dict[str, float]:
    """Return precision, recall and F1 of entities over all rows. 0 / 0 counts as 0.

    The true and predicted tags of a row have the same length.
    """
    expected = {(row, entity) for row, tags in enumerate(truth) for entity in extract_entities(tags)}
    found = {(row, entity) for row, tags in enumerate(predicted) for entity in extract_entities(tags)}
    hits = len(expected & found)
    return {
        "entity_precision": hits / max(1, len(found)),
        "entity_recall": hits / max(1, len(expected)),
        "entity_f1": 2 * hits / max(1, len(expected) + len(found)),
    }

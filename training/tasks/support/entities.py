"""Words of a text, BIO tags of words, and the entities that tags spell."""

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
    "entity_precision": "share of the entities found that are there, from the same first to the same last word",
    "entity_recall": "share of the entities there that are found",
    "entity_f1": "harmonic mean of the two",
}


class Words(NamedTuple):
    """A text and where its words stand in it."""

    text: str
    spans: list[tuple[int, int]]
    """First character of each word and the one after its last."""


class Entity(NamedTuple):
    label: str
    first: int
    """Index of its first word."""
    end: int
    """Index of the word behind its last."""


def join_tokens(tokens: Sequence[str]) -> Words:
    """With a blank between the tokens."""
    spans, at = [], 0
    for token in tokens:
        spans.append((at, at + len(token)))
        at += len(token) + 1
    return Words(" ".join(tokens), spans)


def split_words(text: str) -> Words:
    """Runs of letters and digits are words, and each mark by itself is one."""
    return Words(text, [found.span() for found in _WORD_PATTERN.finditer(text)])


def align_words(spans: Sequence[tuple[int, int]], offsets: Sequence[tuple[int, int]]) -> Iterator[int | None]:
    """Position of the first piece of each word; None where it has none. Control tokens have the empty offset (0, 0)."""
    piece = 0
    for start, end in spans:
        while piece < len(offsets) and offsets[piece][1] <= start:
            piece += 1
        yield piece if piece < len(offsets) and offsets[piece][0] < end else None


def check_tags(tags: Sequence[str]) -> Iterator[RowIssue]:
    for index, tag in enumerate(tags):
        if not TAG_PATTERN.fullmatch(tag):
            message = f"'{tag[:80]}' is no BIO tag: write O, or B- or I- and the kind of entity, as in B-person."
            yield RowIssue("wrong_value", f"tags[{index}]", message)


def count_tags(tags: Iterable[str]) -> TaskState:
    """``{labels, counts}``: ``O``, and ``B-`` and ``I-`` of every kind. Raises ``TrainingError`` where nothing is told
    apart."""
    counts = Counter(tags)
    kinds = {tag[2:] for tag in counts} - {""}
    if not kinds:
        raise TrainingError(
            "invalid_dataset", "No word has the tag of an entity; tag some as B-… and I-….", "training_file"
        )
    if OUTSIDE not in counts:
        raise TrainingError(
            "invalid_dataset",
            f"Every word is part of an entity; give whole sentences, and the words between entities the tag {OUTSIDE}.",
            "training_file",
        )
    labels = sorted({OUTSIDE} | {f"{mark}-{kind}" for mark in "BI" for kind in kinds})
    # A tag that no word has weighs on nothing; 1 only keeps its weight finite.
    return {"labels": labels, "counts": [max(1, counts[label]) for label in labels]}


def extract_entities(tags: Sequence[str]) -> Iterator[Entity]:
    """An entity is a ``B-``, or an ``I-`` behind none of its kind, with the ``I-`` of its kind that follow."""
    first, kind = 0, ""
    for index, tag in enumerate([*tags, OUTSIDE]):
        if kind and tag != f"I-{kind}":
            yield Entity(kind, first, index)
            kind = ""
        if not kind and tag != OUTSIDE:
            first, kind = index, tag[2:]


def score_entities(truth: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]) -> dict[str, float]:
    """Of rows of tags; a row's both sides are of one length. What would be 0 / 0 is 0."""
    there = {(row, entity) for row, tags in enumerate(truth) for entity in extract_entities(tags)}
    made = {(row, entity) for row, tags in enumerate(predicted) for entity in extract_entities(tags)}
    hits = len(there & made)
    return {
        "entity_precision": hits / max(1, len(made)),
        "entity_recall": hits / max(1, len(there)),
        "entity_f1": 2 * hits / max(1, len(there) + len(made)),
    }

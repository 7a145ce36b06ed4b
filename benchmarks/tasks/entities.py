"""Rare and new entities in what people post: the published parts of WNUT-17.

None of the test part's entities stands in the training part: a dictionary of those finds nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from benchmarks.tasks.ask import predictions
from benchmarks.tasks.run import SETS, Data, Figures, Row, Run, Trained


class Span(NamedTuple):
    """An entity, by the characters of its sentence's words joined by blanks."""

    kind: str
    start: int
    end: int


def sentences(name: str) -> list[Row]:
    """Rows of words and their BIO tags."""
    rows: list[Row] = [_nothing()]
    for line in (SETS / "wnut17" / name).read_text(encoding="utf-8").split("\n"):
        token, _, tag = line.rstrip("\r").partition("\t")
        if token:
            rows[-1]["tokens"].append(token)
            rows[-1]["tags"].append(tag)
        elif rows[-1]["tokens"]:
            rows.append(_nothing())
    return rows if rows[-1]["tokens"] else rows[:-1]


def _nothing() -> Row:
    return {"tokens": [], "tags": []}


def spans(row: Row) -> Iterator[Span]:
    """What the tags spell."""
    kind, start, end, at = "", 0, 0, 0
    for token, tag in [*zip(row["tokens"], row["tags"], strict=True), ("", "O")]:
        if kind and tag != f"I-{kind}":
            yield Span(kind, start, end)
            kind = ""
        if not kind and tag != "O":
            kind, start = tag[2:], at
        end, at = at + len(token), at + len(token) + 1


def _rows() -> Data:
    return Data(
        sentences("wnut17train.conll"), sentences("emerging.test.annotated"), "WNUT-17, published train and test parts"
    )


def _ask(trained: Trained, data: Data) -> Figures:
    answers = predictions(trained.client, trained.model, [{"tokens": row["tokens"]} for row in data.held_out])
    found = [[Span(one["label"], one["start"], one["end"]) for one in answer["entities"]] for answer in answers]
    return _scores(data.held_out, found)


def _baselines(trained: Trained, data: Data) -> dict[str, Figures]:
    return {
        "entities of the training part, looked up": _scores(data.held_out, _looked_up(data)),
        "words with capitals are a person": _scores(data.held_out, map(_capitals, data.held_out)),
    }


def _capitals(row: Row) -> Iterator[Span]:
    """Each run of them, but for the first word of the sentence by itself."""
    tags, before = [], "O"
    for word in row["tokens"]:
        before = "O" if not word[0].isupper() else "I-person" if before != "O" else "B-person"
        tags.append(before)
    return (span for span in spans({**row, "tags": tags}) if span.start or " " in _text(row)[: span.end])


def _text(row: Row) -> str:
    return " ".join(row["tokens"])


def _looked_up(data: Data) -> Iterator[list[Span]]:
    """The longest entity of the training part that begins at each word, with its commonest kind."""
    kinds: dict[tuple[str, ...], Counter[str]] = {}
    for row in data.training:
        text = _text(row)
        for span in spans(row):
            kinds.setdefault(tuple(text[span.start : span.end].split(" ")), Counter())[span.kind] += 1
    longest = max(map(len, kinds), default=0)
    for row in data.held_out:
        words, first, found = row["tokens"], 0, []
        starts = [sum(len(word) + 1 for word in words[:index]) for index in range(len(words) + 1)]
        while first < len(words):
            ends = range(min(first + longest, len(words)), first, -1)
            end = next((end for end in ends if tuple(words[first:end]) in kinds), None)
            if end is not None:
                kind = kinds[tuple(words[first:end])].most_common(1)[0][0]
                found.append(Span(kind, starts[first], starts[end] - 1))
            first = end or first + 1
        yield found


def _scores(rows: Sequence[Row], found: Iterable[Iterable[Span]]) -> Figures:
    """Of whole entities: kind, first and last character."""
    there = {(index, span) for index, row in enumerate(rows) for span in spans(row)}
    made = {(index, span) for index, several in enumerate(found) for span in several}
    hits = len(there & made)
    return {
        "entity_precision": hits / max(1, len(made)),
        "entity_recall": hits / max(1, len(there)),
        "entity_f1": 2 * hits / max(1, len(made) + len(there)),
    }


RUN = Run(
    title="rare entities in posts (WNUT-17)",
    base="minilm-l6",
    task="token-classification",
    rows=_rows,
    ask=_ask,
    baselines=_baselines,
    decisive="entity_f1",
    hyperparameters={"n_epochs": 5},
)

"""English into Swedish by a model that begins with random weights: sentence pairs of Tatoeba."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from math import log, sqrt
from pathlib import Path
from random import Random

from sacrebleu import corpus_bleu, corpus_chrf

from benchmarks.bases import Entry, translator
from benchmarks.tasks.ask import predictions
from benchmarks.tasks.run import SEED, SETS, Data, Figures, Run, Trained

HELD_OUT = 500


def _rows() -> Data:
    """The first translation of each source."""
    text = (SETS / "tatoeba_eng_swe" / "swe.txt").read_text(encoding="utf-8")
    first: dict[str, str] = {}
    for line in text.splitlines():
        source, target = line.split("\t")[:2]
        first.setdefault(source, target)
    rows = [{"source": source, "target": target} for source, target in first.items()]
    Random(SEED).shuffle(rows)
    return Data(rows[HELD_OUT:], rows[:HELD_OUT], f"the first translation of each of {len(rows)} different sources")


def _ask(trained: Trained, data: Data) -> Figures:
    answers = predictions(trained.client, trained.model, [{"source": row["source"]} for row in data.held_out])
    return _figures(data, [answer["text"] for answer in answers])


def _baselines(trained: Trained, data: Data) -> dict[str, Figures]:
    return {
        "translation of the likest training source": _figures(data, list(_nearest(data))),
        "the source itself": _figures(data, [row["source"] for row in data.held_out]),
    }


def _nearest(data: Data) -> Iterator[str]:
    """By the cosine of their words, each weighted by how rare it is (TF-IDF)."""
    bags = [_words(row["source"]) for row in data.training]
    rows_of: dict[str, list[int]] = defaultdict(list)
    for number, bag in enumerate(bags):
        for word in bag:
            rows_of[word].append(number)
    rarity = {word: log(len(bags) / len(rows)) + 1 for word, rows in rows_of.items()}
    norms = [sqrt(sum((count * rarity[word]) ** 2 for word, count in bag.items())) for bag in bags]
    for row in data.held_out:
        scores: dict[int, float] = defaultdict(float)
        for word, count in _words(row["source"]).items():
            for number in rows_of.get(word, ()):
                scores[number] += count * bags[number][word] * rarity[word] ** 2
        best = max(scores, key=lambda number: scores[number] / norms[number], default=0)
        yield data.training[best]["target"]


def _words(text: str) -> Counter[str]:
    return Counter("".join(letter if letter.isalnum() else " " for letter in text.lower()).split())


def _figures(data: Data, found: Sequence[str]) -> Figures:
    references = [[row["target"] for row in data.held_out]]
    return {"bleu": corpus_bleu(found, references).score, "chrf": corpus_chrf(found, references).score}


def _base(directory: Path, data: Data) -> Entry:
    return translator(directory, (text for row in data.training for text in row.values()))


RUN = Run(
    title="English into Swedish (Tatoeba)",
    base="small-bart",
    task="seq2seq",
    update={"type": "full"},
    rows=_rows,
    ask=_ask,
    baselines=_baselines,
    decisive="bleu",
    # The rules' rates are for models that were trained before.
    hyperparameters={"n_epochs": 10, "batch_size": 64, "learning_rate": 0.0015},
    make_base=_base,
)

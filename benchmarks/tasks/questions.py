"""Questions whose answer is a part of a post, made from the entities of WNUT-17: no set of questions is at hand.

"Which person is mentioned?" is asked of every sentence that has exactly one person, and likewise of the other kinds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from benchmarks.tasks.ask import predictions
from benchmarks.tasks.entities import sentences, spans
from benchmarks.tasks.run import Data, Figures, Row, Run, Trained
from training.tasks.support import squad

NOUNS = {
    "person": "person",
    "location": "place",
    "corporation": "company",
    "product": "product",
    "creative-work": "book, film or song",
    "group": "group",
}


def _rows() -> Data:
    training, held_out = (
        [question for row in sentences(name) for question in _questions(row)]
        for name in ("wnut17train.conll", "emerging.test.annotated")
    )
    return Data(training, held_out, "made from the entities of WNUT-17's published train and test parts")


def _questions(row: Row) -> Iterator[Row]:
    text, found = " ".join(row["tokens"]), list(spans(row))
    times = Counter(span.kind for span in found)
    for span in found:
        if times[span.kind] == 1:
            answer = {"text": text[span.start : span.end], "start": span.start}
            yield {"question": f"Which {NOUNS[span.kind]} is mentioned?", "context": text, "answers": [answer]}


def _ask(trained: Trained, data: Data) -> Figures:
    asked = [{"question": row["question"], "context": row["context"]} for row in data.held_out]
    return _figures(data, [answer["text"] for answer in predictions(trained.client, trained.model, asked)])


def _baselines(trained: Trained, data: Data) -> dict[str, Figures]:
    contexts = [row["context"] for row in data.held_out]
    return {
        "the first word with a capital": _figures(data, [_capital(context) for context in contexts]),
        "the whole sentence": _figures(data, contexts),
    }


def _capital(context: str) -> str:
    words = context.split(" ")
    return next((word for word in words if word[:1].isupper()), words[0])


def _figures(data: Data, found: list[str]) -> Figures:
    return squad.scores(found, [[answer["text"] for answer in row["answers"]] for row in data.held_out])


RUN = Run(
    title="questions about posts (from WNUT-17)",
    base="minilm-l6",
    task="question-answering",
    rows=_rows,
    ask=_ask,
    baselines=_baselines,
    decisive="f1",
)
